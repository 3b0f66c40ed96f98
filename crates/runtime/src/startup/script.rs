//! The texts of the startup scripts.
//!
//! Whatever they set for themselves begins with `__spfs_` and is gone when the user's program
//! runs. The command's arguments are put aside while other people's scripts run: one that says
//! `set --` would change them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where tcsh's start file finds the real home folder, and zsh's the real folder of start files.
pub(super) const ORIGINAL_HOME: &str = "SPFS_ORIGINAL_HOME";
pub(super) const ORIGINAL_ZDOTDIR: &str = "SPFS_ORIGINAL_ZDOTDIR";

/// How a script ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tail<'a> {
    /// It executes this command, which it also gets as its arguments.
    Command(&'a [OsString]),
    /// It greets: it is the start file of an interactive shell.
    Greeting,
    /// It greets and executes this interactive shell.
    Shell(&'a Path),
    /// It executes fish, which reads another start file after its own and greets there.
    Fish {
        /// The shell.
        shell: &'a Path,
        /// What it reads.
        file: &'a Path,
    },
}

/// What a script does, in any dialect.
#[derive(Debug)]
pub(super) struct Script<'a> {
    pub(super) variables: &'a [(OsString, OsString)],
    pub(super) startup_dir: PathBuf,
    pub(super) tail: Tail<'a>,
}

const BASH_HEAD: &str = "\
# Written anew at each start of the runtime.
__spfs_command=(\"$@\")
set --
if [ -r ~/.bashrc ]; then . ~/.bashrc; fi
";

const BASH_LOOP: &str = "\
/*.sh; do
  [ -r \"$__spfs_file\" ] || continue
  if [ -n \"${SPFS_DEBUG-}\" ]; then echo \"source $__spfs_file\" >&2; fi
  . \"$__spfs_file\"
done
unset __spfs_file
";

const BASH_GREETING: &str = "\
unset __spfs_command
if [ -n \"${SPFS_SHELL_MESSAGE-}\" ]; then printf '%s\\n' \"$SPFS_SHELL_MESSAGE\" >&2; fi
";

const ZSH_HEAD: &str = "\
# Written anew at each start of the runtime.
if (( ${+SPFS_ORIGINAL_ZDOTDIR} )); then
  export ZDOTDIR=\"$SPFS_ORIGINAL_ZDOTDIR\"
  unset SPFS_ORIGINAL_ZDOTDIR
else
  unset ZDOTDIR
fi
if [[ -r \"${ZDOTDIR:-$HOME}/.zshrc\" ]]; then . \"${ZDOTDIR:-$HOME}/.zshrc\"; fi
__spfs_source() { emulate -L sh; . \"$1\"; }
";

/// `(N)`: nothing, and no error, when no file matches.
const ZSH_LOOP: &str = "\
/*.sh(N); do
  if [[ -n \"${SPFS_DEBUG-}\" ]]; then print -r -- \"source $__spfs_file\" >&2; fi
  __spfs_source \"$__spfs_file\"
done
unset __spfs_file
unfunction __spfs_source
if [[ -n \"${SPFS_SHELL_MESSAGE-}\" ]]; then print -r -- \"$SPFS_SHELL_MESSAGE\" >&2; fi
";

const ZSHENV: &str = "\
# Written anew at each start of the runtime.
if [[ -r \"${SPFS_ORIGINAL_ZDOTDIR:-$HOME}/.zshenv\" ]]; then
  __spfs_zdotdir=\"$ZDOTDIR\"
  if (( ${+SPFS_ORIGINAL_ZDOTDIR} )); then
    ZDOTDIR=\"$SPFS_ORIGINAL_ZDOTDIR\"
  else
    unset ZDOTDIR
  fi
  . \"${ZDOTDIR:-$HOME}/.zshenv\"
  if [[ \"${ZDOTDIR-}\" != \"${SPFS_ORIGINAL_ZDOTDIR-}\" ]]; then
    export SPFS_ORIGINAL_ZDOTDIR=\"$ZDOTDIR\"
  fi
  export ZDOTDIR=\"$__spfs_zdotdir\"
  unset __spfs_zdotdir
fi
";

const TCSH_HEAD: &str = "\
# Written anew at each start of the runtime.
if ( $?SPFS_ORIGINAL_HOME ) then
    setenv HOME \"$SPFS_ORIGINAL_HOME\"
    unsetenv SPFS_ORIGINAL_HOME
endif
if ( $?HOME ) then
    if ( -r \"$HOME/.tcshrc\" ) then
        source \"$HOME/.tcshrc\"
    else if ( -r \"$HOME/.cshrc\" ) then
        source \"$HOME/.cshrc\"
    endif
endif
";

const TCSH_LOOP_HEAD: &str = "\
set __spfs_nonomatch = $?nonomatch
set nonomatch
foreach __spfs_file ( ";

const TCSH_LOOP: &str = "\
/*.csh )
    if ( -r \"$__spfs_file\" ) then
        if ( $?SPFS_DEBUG ) sh -c 'echo \"source $1\" >&2' sh \"$__spfs_file\"
        source \"$__spfs_file\"
    endif
end
if ( ! $__spfs_nonomatch ) unset nonomatch
unset __spfs_nonomatch __spfs_file
";

const TCSH_GREETING: &str = "\
if ( $?SPFS_SHELL_MESSAGE ) then
    if ( \"$SPFS_SHELL_MESSAGE\" != \"\" ) sh -c 'printf \"%s\\\\n\" \"$SPFS_SHELL_MESSAGE\" >&2'
endif
";

/// A pattern that nothing matches is no word in a `for` of fish.
const FISH_LOOP: &str = "\
/*.fish
    if set -q SPFS_DEBUG; echo \"source $__spfs_file\" >&2; end
    source $__spfs_file
end
set -e __spfs_file
if test -n \"$SPFS_SHELL_MESSAGE\"; echo $SPFS_SHELL_MESSAGE >&2; end
";

/// The command that lets fish read a file.
fn fish_source(file: &Path) -> Vec<u8> {
    [b"source ", quoted_for_fish(file.as_os_str()).as_slice()].concat()
}

/// zsh reads `.zshenv` from the folder that also has our `.zshrc`: this one reads the user's.
pub(super) fn zshenv() -> Vec<u8> {
    ZSHENV.into()
}

impl Script<'_> {
    pub(super) fn bash(&self) -> Vec<u8> {
        let mut text = BASH_HEAD.as_bytes().to_vec();
        self.exports(&mut text);
        let folder = quoted(self.startup_dir.as_os_str());
        append(&mut text, &[b"for __spfs_file in ", &folder, BASH_LOOP.as_bytes()]);
        match self.tail {
            Tail::Command(_) => append(&mut text, &[b"exec \"${__spfs_command[@]}\"\n"]),
            Tail::Greeting => append(&mut text, &[BASH_GREETING.as_bytes()]),
            Tail::Shell(shell) => {
                let shell = quoted(shell.as_os_str());
                append(&mut text, &[BASH_GREETING.as_bytes(), b"exec ", &shell, b"\n"]);
            }
            Tail::Fish { shell, file } => {
                let shell = quoted(shell.as_os_str());
                let command = quoted(OsStr::from_bytes(&fish_source(file)));
                let words: [&[u8]; 5] =
                    [b"unset __spfs_command\nexec ", &shell, b" --init-command ", &command, b"\n"];
                append(&mut text, &words);
            }
        }
        text
    }

    /// Only ever the start file of an interactive shell.
    pub(super) fn zsh(&self) -> Vec<u8> {
        let mut text = ZSH_HEAD.as_bytes().to_vec();
        self.exports(&mut text);
        let folder = quoted(self.startup_dir.as_os_str());
        append(&mut text, &[b"for __spfs_file in ", &folder, ZSH_LOOP.as_bytes()]);
        text
    }

    pub(super) fn tcsh(&self) -> Vec<u8> {
        let mut text = TCSH_HEAD.as_bytes().to_vec();
        for (name, value) in self.named_variables() {
            append(&mut text, &[b"setenv ", name, b" ", &quoted_for_csh(value), b"\n"]);
        }
        let folder = quoted_for_csh(self.startup_dir.as_os_str());
        append(&mut text, &[TCSH_LOOP_HEAD.as_bytes(), &folder, TCSH_LOOP.as_bytes()]);
        match self.tail {
            Tail::Command(command) => {
                // Not from its arguments: tcsh has no way to expand them that keeps empty ones.
                append(&mut text, &[b"exec"]);
                for word in command {
                    append(&mut text, &[b" ", &quoted_for_csh(word)]);
                }
                append(&mut text, &[b"\n"]);
            }
            Tail::Greeting => append(&mut text, &[TCSH_GREETING.as_bytes()]),
            Tail::Shell(shell) => {
                let shell = quoted_for_csh(shell.as_os_str());
                append(&mut text, &[TCSH_GREETING.as_bytes(), b"exec ", &shell, b"\n"]);
            }
            Tail::Fish { shell, file } => {
                let shell = quoted_for_csh(shell.as_os_str());
                let command = quoted_for_csh(OsStr::from_bytes(&fish_source(file)));
                let words: [&[u8]; 5] = [b"exec ", &shell, b" --init-command ", &command, b"\n"];
                append(&mut text, &words);
            }
        }
        text
    }

    /// What fish reads after its own start files: variables that these may have changed, and the
    /// scripts of layers that are written for it.
    pub(super) fn fish(&self) -> Vec<u8> {
        let mut text = b"# Written anew at each start of the runtime.\n".to_vec();
        for (name, value) in self.named_variables() {
            append(&mut text, &[b"set -gx ", name, b" ", &quoted_for_fish(value), b"\n"]);
        }
        let folder = quoted_for_fish(self.startup_dir.as_os_str());
        append(&mut text, &[b"for __spfs_file in ", &folder, FISH_LOOP.as_bytes()]);
        text
    }

    fn exports(&self, text: &mut Vec<u8>) {
        for (name, value) in self.named_variables() {
            append(text, &[b"export ", name, b"=", &quoted(value), b"\n"]);
        }
    }

    /// Variables whose names a shell can have; the others are in the environment all the same.
    fn named_variables(&self) -> impl Iterator<Item = (&[u8], &OsStr)> {
        self.variables.iter().filter_map(|(name, value)| {
            let name = name.as_bytes();
            let (first, rest) = name.split_first()?;
            let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            (!first.is_ascii_digit() && word(first) && rest.iter().all(word))
                .then_some((name, value.as_os_str()))
        })
    }
}

fn append(text: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| text.extend_from_slice(part));
}

/// A word that sh, bash and zsh take as it is: everything between single quotes is literal, and a
/// quote itself is added from outside.
fn quoted(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

/// The same for tcsh, which expands `!` even between quotes and ends words at line ends.
fn quoted_for_csh(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            b'!' => text.extend_from_slice(b"\\!"),
            b'\n' => text.extend_from_slice(b"\\\n"),
            byte => text.push(byte),
        }
    }
    text.push(b'\'');
    text
}

/// The same for fish, where a backslash is special between single quotes, too.
fn quoted_for_fish(word: &OsStr) -> Vec<u8> {
    let mut text = vec![b'\''];
    for &byte in word.as_bytes() {
        if matches!(byte, b'\'' | b'\\') {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.push(b'\'');
    text
}
