//! The agent that makes launchd start the service when its user logs in (launchd.plist(5)).

use std::path::{Path, PathBuf};

/// The name that launchd knows the service by.
pub(crate) const LABEL: &str = "spfs-fuse.service";

/// Where the file of the agent lies below the home directory.
pub(crate) fn path(home: &Path) -> PathBuf {
    home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"))
}

/// The text of the file. `program` is the one file that there is: called `spfs-fuse` it serves.
/// The variables stand for what a shell would have told it, since launchd starts no shell.
pub(crate) fn plist(program: &str, variables: &[(&str, &str)], log: &str) -> String {
    let mut environment = String::new();
    for (name, value) in variables {
        let (name, value) = (escape(name), escape(value));
        environment.push_str(&format!("\t\t<key>{name}</key>\n\t\t<string>{value}</string>\n"));
    }
    let (program, log) = (escape(program), escape(log));
    // KeepAlive: started again when it crashed, not when somebody shut it down. NumberOfFiles: the
    // default is 256.
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>{LABEL}</string>
	<key>Program</key>
	<string>{program}</string>
	<key>ProgramArguments</key>
	<array>
		<string>spfs-fuse</string>
		<string>service</string>
		<string>--foreground</string>
	</array>
	<key>EnvironmentVariables</key>
	<dict>
{environment}	</dict>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>ProcessType</key>
	<string>Interactive</string>
	<key>SoftResourceLimits</key>
	<dict>
		<key>NumberOfFiles</key>
		<integer>10240</integer>
	</dict>
	<key>StandardErrorPath</key>
	<string>{log}</string>
</dict>
</plist>
"#
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_runs_the_service_in_the_foreground() {
        let variables = [("SPFS_STORAGE_ROOT", "/data/<a>&b")];
        let text = plist("/opt/spfs & co/spfs", &variables, "/Users/ada/Library/Logs/spfs.log");
        let value = |key| spfs_sys::host::plist_text(&text, key);
        assert_eq!(value("Label"), Some("spfs-fuse.service"));
        assert_eq!(value("Program"), Some("/opt/spfs &amp; co/spfs"));
        assert_eq!(value("SPFS_STORAGE_ROOT"), Some("/data/&lt;a&gt;&amp;b"));
        assert_eq!(value("StandardErrorPath"), Some("/Users/ada/Library/Logs/spfs.log"));
        let words: Vec<&str> = text
            .split_once("<array>")
            .and_then(|(_, rest)| rest.split_once("</array>"))
            .map(|(words, _)| words.split_whitespace().collect())
            .unwrap_or_default();
        assert_eq!(
            words,
            [
                "<string>spfs-fuse</string>",
                "<string>service</string>",
                "<string>--foreground</string>"
            ]
        );
    }

    #[test]
    fn every_element_is_closed() {
        let text = plist("/p", &[("A", "b")], "/l");
        for element in ["plist", "dict", "array", "key", "string", "integer"] {
            let opened = text.matches(&format!("<{element}>")).count()
                + text.matches(&format!("<{element} ")).count();
            assert_eq!(opened, text.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn the_file_lies_among_the_agents_of_the_user() {
        let path = path(Path::new("/Users/ada"));
        assert_eq!(path, Path::new("/Users/ada/Library/LaunchAgents/spfs-fuse.service.plist"));
    }
}
