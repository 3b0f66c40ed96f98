//! Life and death of runtimes: nothing is left behind, nothing acknowledged is lost.

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{User, World, as_each_user, name_of, wait_for};

fn listed(world: &World) -> serde_json::Value {
    serde_json::from_str(&world.spfs(["runtime", "list", "--json"]).succeeds().stdout).unwrap()
}

/// Kills a process, and waits until it is gone with all it had open.
pub(crate) fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    wait_for("the killed process to be gone", || has_ended(pid));
}

/// Whether a process is gone or waits for its parent only: all threads have let go of its files.
fn has_ended(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    let is_zombie = stat.rsplit(") ").next().is_some_and(|state| state.starts_with(['Z', 'X']));
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    is_zombie && threads <= 1
}

#[test]
fn nothing_is_left_when_the_last_process_has_ended() {
    as_each_user(|world| {
        world.spfs(["run", "-", "--", "sh", "-c", "touch /spfs/x"]).succeeds();
        world.settle();
        assert_eq!(world.runtimes(), Vec::<String>::new());
        assert_eq!(world.left_of_runtimes(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn a_runtime_lives_until_its_last_process_ends() {
    as_each_user(|world| {
        let fifo = world.path("work/fifo");
        // The background process keeps no pipe of ours, so `run` itself can end.
        let script = format!(
            "mkfifo {fifo}; (read x < {fifo}) </dev/null >/dev/null 2>&1 &",
            fifo = fifo.display()
        );
        world.spfs(["run", "-", "--", "sh", "-c", &script]).succeeds();
        wait_for("the background process to open the fifo", || fifo.exists());
        assert_eq!(world.runtimes().len(), 1);
        use std::io::Write;
        writeln!(std::fs::File::options().write(true).open(&fifo).unwrap(), "end").unwrap();
        wait_for("the runtime to end", || world.runtimes().is_empty());
        world.settle();
    });
}

/// Changes one attribute again and again: 24 MB of history, and one value in the end.
const HISTORY: &str = "\
import os
open('/spfs/file', 'w').close()
for number in range(400):
    os.setxattr('/spfs/file', 'user.value', b'%05d' % number * 12_000)
";

#[test]
fn a_long_life_leaves_no_long_history() {
    as_each_user(|world| {
        let script = world.path("work/history.py");
        std::fs::write(&script, HISTORY).unwrap();
        let mut session =
            world.session(["--edit", "--runtime-name", "long", "--keep-runtime", "-"]);
        session.ok(&format!("python3 {}", script.display()));
        let journal = world.storage().join("runtimes/long/journal");
        let len = || std::fs::metadata(&journal).map_or(u64::MAX, |file| file.len());
        wait_for("the journal to become short", || len() < 1 << 20);
        let last = "python3 -c \"import os; print(os.getxattr('/spfs/file', 'user.value')[-5:])\"";
        assert_eq!(session.ok(last).trim(), "b'00399'");
        session.end();
        let rerun = world.spfs(["run", "--rerun", "long", "--", "sh", "-c", last]).succeeds();
        assert_eq!(rerun.stdout.trim(), "b'00399'");
        world.spfs(["runtime", "rm", "--remove-durable", "long"]).succeeds();
    });
}

#[test]
fn exactly_one_daemon_serves_a_runtime_and_it_is_called_spfs_fuse() {
    as_each_user(|world| {
        let session = world.session(["-"]);
        assert_eq!(name_of(world.daemon()), "spfs-fuse");
        session.end();
        world.settle();
    });
}

#[test]
fn running_runtimes_are_listed_with_their_state() {
    as_each_user(|world| {
        let session = world.session(["--runtime-name", "named", "-"]);
        let list = world.spfs(["runtime", "list"]).succeeds().stdout;
        for part in ["named", "running=true", "editable=true", "durable=false", "status=running"] {
            assert!(list.contains(part), "{part} in {list}");
        }
        assert_eq!(world.runtimes(), ["named"]);
        let json = listed(world);
        assert_eq!(json[0]["name"], "named");
        assert_eq!(json[0]["status"], "running");
        let info = world.spfs(["runtime", "info", "named"]).succeeds().stdout;
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        assert_eq!(info["name"], "named");
        assert_eq!(info["status"]["editable"], true);
        world.spfs(["runtime", "info", "other"]).fails_with(1, &["other"]);
        world.spfs(["runtime", "rm", "named"]).fails_with(1, &["named", "running"]);
        session.end();
    });
}

#[test]
fn four_runtimes_at_once_do_not_disturb_each_other() {
    as_each_user(|world| {
        world.layer("base", &[("f", "base\n")]);
        let mut sessions: Vec<_> = (0..4).map(|_| world.session(["--edit", "base"])).collect();
        for (n, session) in sessions.iter_mut().enumerate() {
            session.ok(&format!("echo {n} > /spfs/f; touch /spfs/only-{n}"));
        }
        assert_eq!(world.runtimes().len(), 4);
        for (n, session) in sessions.iter_mut().enumerate() {
            assert_eq!(session.ok("cat /spfs/f; ls /spfs"), format!("{n}\nf\nonly-{n}\n"));
        }
        for session in sessions {
            session.end();
        }
        wait_for("the runtimes to end", || world.runtimes().is_empty());
    });
}

#[test]
fn a_kept_runtime_can_be_run_again_with_its_changes() {
    as_each_user(|world| {
        world.layer("base", &[("f", "base\n")]);
        let run = world.spfs(["run", "--keep-runtime", "--runtime-name", "kept", "--edit", "base"]);
        run.args(["--", "sh", "-c", "echo changed > /spfs/f; touch /spfs/new"]).succeeds();
        wait_for("the runtime to be saved", || listed(world)[0]["status"] == "saved");
        assert_eq!(listed(world)[0]["durable"], true);
        let again =
            world.spfs(["run", "--rerun", "kept", "--", "sh", "-c", "cat /spfs/f; ls /spfs"]);
        assert_eq!(again.succeeds().stdout, "changed\nf\nnew\n");
        wait_for("the runtime to be saved", || listed(world)[0]["status"] == "saved");
        world.spfs(["run", "--rerun", "other", "--", "true"]).fails_with(1, &["other"]);
        world.spfs(["runtime", "rm", "kept"]).fails_with(2, &["kept", "--remove-durable"]);
        let remove = world.spfs(["runtime", "rm", "--remove-durable", "no", "kept", "nor", "this"]);
        remove.fails_with(
            1,
            &["runtime no\n", "removed name=kept", "runtime nor\n", "runtime this\n"],
        );
        assert_eq!(world.runtimes(), Vec::<String>::new());
    });
}

#[test]
fn a_runtime_can_be_made_durable_from_inside() {
    as_each_user(|world| {
        let mut session = world.session(["--runtime-name", "kept", "-"]);
        session.ok("echo x > /spfs/f; SPFS_KEEP_RUNTIME=1 spfs edit --off");
        assert_eq!(listed(world)[0]["durable"], true);
        session.end();
        wait_for("the runtime to be saved", || listed(world)[0]["status"] == "saved");
        let again = world.spfs(["run", "--rerun", "kept", "--", "cat", "/spfs/f"]);
        assert_eq!(again.succeeds().stdout, "x\n");
        wait_for("the runtime to be saved", || listed(world)[0]["status"] == "saved");
        world.spfs(["runtime", "rm", "--remove-durable", "kept"]).succeeds();
    });
}

#[test]
fn when_the_daemon_is_killed_its_runtime_is_crashed_and_keeps_its_changes() {
    as_each_user(|world| {
        world.layer("base", &[("f", "base\n"), ("g", "base\n")]);
        let mut session = world.session(["--runtime-name", "victim", "--edit", "base"]);
        session.ok("echo changed > /spfs/f; mkdir /spfs/d; echo new > /spfs/d/new; rm /spfs/g");
        kill(world.daemon());
        let said = session.fails("ls /spfs");
        assert!(said.contains("Transport endpoint is not connected"), "{said}");
        assert_eq!(listed(world)[0]["status"], "crashed");
        let list = world.spfs(["runtime", "list"]).succeeds().stdout;
        assert!(list.contains("status=crashed"), "{list}");
        let said = session.fails("spfs commit layer");
        assert!(said.contains("victim") && said.contains("--rerun"), "{said}");
        session.end();
        let script = "cat /spfs/f /spfs/d/new; ls /spfs; spfs commit layer -t saved";
        let again = world.spfs(["run", "--rerun", "victim", "--", "sh", "-c", script]);
        assert_eq!(again.succeeds().stdout, "changed\nnew\nd\nf\n");
        assert_eq!(world.spfs(["read", "base+saved", "f"]).succeeds().stdout, "changed\n");
    });
}

#[test]
fn a_crashed_runtime_can_be_removed() {
    as_each_user(|world| {
        let session = world.session(["--runtime-name", "victim", "-"]);
        kill(world.daemon());
        session.end();
        world.spfs(["runtime", "rm", "victim"]).succeeds();
        assert_eq!(world.runtimes(), Vec::<String>::new());
        assert_eq!(world.left_of_runtimes(), Vec::<std::path::PathBuf>::new());
    });
}

#[test]
fn killing_the_command_ends_the_runtime() {
    as_each_user(|world| {
        let mut session = world.session(["-"]);
        session.ok("touch /spfs/x");
        let pid: u32 = session.ok("echo $$").trim().parse().unwrap();
        kill(pid);
        session.end();
        wait_for("the runtime to end", || world.runtimes().is_empty());
        world.settle();
    });
}

#[test]
fn a_quick_command_leaves_nothing_however_often() {
    as_each_user(|world| {
        for _ in 0..10 {
            world.spfs(["run", "-", "--", "true"]).succeeds();
        }
        wait_for("the runtimes to end", || world.runtimes().is_empty());
    });
}

#[test]
fn other_users_cannot_look_into_a_runtime() {
    if !crate::harness::is_root() || !crate::harness::mounts_work() {
        return;
    }
    let world = World::of(User::Nobody);
    let mut session = world.session(["-"]);
    session.ok("echo secret > /spfs/f");
    use std::os::unix::fs::PermissionsExt;
    let folder = std::fs::read_dir(world.storage().join("runtimes")).unwrap().next().unwrap();
    let mode = folder.unwrap().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    session.end();
}

#[test]
fn the_name_of_a_runtime_is_free_and_its_changes_can_be_exported_as_soon_as_it_has_ended() {
    as_each_user(|world| {
        for round in 0..6 {
            world.spfs(["run", "--runtime-name", "job", "-", "--", "true"]).succeeds();
            let kept = format!("kept{round}");
            let run = ["run", "--keep-runtime", "--runtime-name", &kept, "--edit", "-", "--"];
            world.spfs(run).args(["sh", "-c", "echo x > /spfs/file"]).succeeds();
            let saved = world.path(format!("work/saved{round}"));
            world.spfs(["runtime", "export", &kept]).arg(&saved).succeeds();
            assert_eq!(std::fs::read_to_string(saved.join("file")).unwrap(), "x\n");
            world.spfs(["runtime", "rm", "--remove-durable", &kept]).succeeds();
        }
        world.settle();
    });
}

#[test]
fn a_name_like_an_option_is_refused() {
    let world = World::new();
    let run = world.spfs(["run", "--runtime-name=-x", "-", "--", "true"]);
    run.fails_with(2, &["-x", "begins with '-'"]);
    assert_eq!(world.runtimes(), Vec::<String>::new());
}
