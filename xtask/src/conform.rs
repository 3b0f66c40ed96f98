//! The public file system suites, inside an editable runtime.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::run::{Build, Spfs, check, root};

/// Versions that the exclusions below were decided for.
const PJDFSTEST: &str = "0.2.2";
const FSX: &str = "0.3.2";

/// Which suites.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these: pjdfstest, fsx
    #[arg(long, value_delimiter = ',', default_value = "pjdfstest,fsx")]
    only: Vec<String>,
    /// Operations of fsx
    #[arg(long, default_value_t = 100_000)]
    fsx_ops: u32,
    /// Test the debug build, which is there when the tests have run
    #[arg(long)]
    debug: bool,
}

pub(crate) fn conform(args: &Args) -> Result {
    let build = if args.debug { Build::Debug } else { Build::Release };
    let spfs = Spfs::built(build, None)?;
    for suite in &args.only {
        match suite.as_str() {
            "pjdfstest" => pjdfstest(&spfs)?,
            "fsx" => fsx(&spfs, args.fsx_ops)?,
            other => return Err(format!("unknown suite {other}").into()),
        }
    }
    Ok(())
}

/// Installs a program from the registry, once.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let tools = root().join("target/tools").join(version);
    let program = tools.join("bin").join(name);
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["install", "--quiet", "--locked", "--version", version, "--root"]);
        check(cargo.arg(&tools).arg(name))?;
    }
    Ok(program)
}

/// Users that pjdfstest acts as; made when they are missing.
const USERS: &str = "for u in pjdfstest_a pjdfstest_b pjdfstest_c; do
    getent group $u >/dev/null || groupadd $u
    getent passwd $u >/dev/null || useradd -M -g $u $u
done";

fn pjdfstest(spfs: &Spfs) -> Result {
    let program = tool("pjdfstest", PJDFSTEST)?;
    check(&mut crate::run::shell(USERS))?;
    let config = spfs.dir.path().join("pjdfstest.toml");
    fs::write(&config, PJDFSTEST_CONFIG)?;
    let script = format!(
        "mkdir -m 0755 /spfs/suite; cd /spfs/suite; {} -c {} -p /spfs/suite",
        program.display(),
        config.display(),
    );
    println!("== pjdfstest {PJDFSTEST}");
    spfs.edit("-", &script)
}

/// The features of Linux file systems that the suite should hold us to, as it would ext4.
const PJDFSTEST_CONFIG: &str = r#"
[features]
posix_fallocate = {}
utime_now = {}
utimensat = {}
rename_ctime = {}

[settings]
naptime = 0.02
allow_remount = false

[dummy_auth]
entries = [
    ["pjdfstest_a", "pjdfstest_a"],
    ["pjdfstest_b", "pjdfstest_b"],
    ["pjdfstest_c", "pjdfstest_c"],
]
"#;

fn fsx(spfs: &Spfs, ops: u32) -> Result {
    let program = tool("fsx", FSX)?;
    println!("== fsx {FSX}: a new file");
    spfs.edit("-", &format!("cd /spfs; {} -N {ops} -S 7 file", program.display()))?;
    println!("== fsx {FSX}: a copied-up base file");
    let tree = spfs.dir.path().join("base");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("file"), vec![0x5a; 1 << 20])?;
    spfs.run(["commit", "--path", &tree.to_string_lossy(), "-t", "fsx/base"])?;
    let script = format!("cd /spfs; {} -N {ops} -S 11 file", program.display());
    spfs.edit("fsx/base", &script)
}
