//! The examples of docs/semantics.md, each in a runtime of its own.

use crate::harness::{World, as_each_user, own_mounts};

/// A block of commands and what they print.
struct Example {
    /// Of its first line in the document.
    line: usize,
    steps: Vec<Step>,
}

struct Step {
    line: usize,
    command: String,
    output: String,
}

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/semantics.md");
    std::fs::read_to_string(path).unwrap()
}

/// The blocks marked `sh`: a line that begins with `$ ` is a command, others are its output.
fn examples(document: &str) -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut inside = false;
    for (at, text) in document.lines().enumerate() {
        let line = at + 1;
        match (inside, text.strip_prefix("```")) {
            (false, Some("sh")) => {
                inside = true;
                examples.push(Example { line, steps: Vec::new() });
            }
            (true, Some(_)) => inside = false,
            (true, None) => {
                let steps = &mut examples.last_mut().unwrap().steps;
                match text.strip_prefix("$ ") {
                    Some(command) => {
                        let (command, output) = (command.to_owned(), String::new());
                        steps.push(Step { line, command, output });
                    }
                    None => {
                        let step = steps.last_mut().expect("a block begins with a command");
                        step.output.push_str(text);
                        step.output.push('\n');
                    }
                }
            }
            _ => {}
        }
    }
    assert!(!inside, "the last block of docs/semantics.md has no end");
    examples
}

/// The layer that the document says its examples begin with.
fn layer(world: &World) {
    let big = "0123456789abcdef".repeat((4 << 20) / 16);
    let files = [("file", "of the layer\n"), ("dir/inner", "inside\n"), ("big", &big)];
    world.layer("base", &files);
}

#[test]
fn the_examples_of_the_document_are_true() {
    as_each_user(|world| {
        layer(world);
        let found = examples(&document());
        assert!(found.len() > 10, "{} examples", found.len());
        let wrong: Vec<String> = found.iter().flat_map(|example| run(world, example)).collect();
        assert!(wrong.is_empty(), "as {:?}\n{}", world.user(), wrong.join("\n"));
    });
}

/// What docs/macos.md says is otherwise where one mount shows all runtimes.
const UNLIKE_A_MOUNT: [&str; 1] = ["[ -w file ] || echo not writable"];

/// Returns what is otherwise than the document says.
fn run(world: &World, example: &Example) -> Vec<String> {
    let mut session = world.session(["--edit", "base"]);
    session.ok("cd /spfs");
    assert!(!example.steps.is_empty(), "docs/semantics.md:{}: no command", example.line);
    let mut wrong = Vec::new();
    for Step { line, command, output } in &example.steps {
        if UNLIKE_A_MOUNT.contains(&&**command) && !own_mounts("access(2) asks the mount") {
            continue;
        }
        let mut said = session.sh(command).stdout;
        if !said.is_empty() && !said.ends_with('\n') {
            said.push('\n');
        }
        if said != *output {
            wrong.push(format!("docs/semantics.md:{line}: {command}\n{said}instead of\n{output}"));
        }
    }
    session.end();
    world.settle();
    wrong
}
