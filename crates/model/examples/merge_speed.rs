//! Measures reading and merging layers: `cargo run --release -p spfs-model --example merge_speed`.
//!
//! Takes the number of entries (a million) and of layers (fifty). Two shapes: every layer with
//! directories of its own, as packages have them, and every layer with a part of every directory.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use spfs_model::{
    BlobEntry, Content, Digest, DigestStrategy, EncodingFormat, Manifest, ManifestBuilder, NameBuf,
    NewEntry, Object, Position, decode, encode, merge,
};

const FILES_IN_DIRECTORY: usize = 16;
const DIRECTORIES_IN_DIRECTORY: usize = 12;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let entries: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let layers: usize = arguments.next().map_or(Ok(50), |text| text.parse())?;
    for (shape, shared) in [("own directories", false), ("shared directories", true)] {
        let mut files = Vec::new();
        for number in 0..layers {
            let manifest = layer(number, entries / layers, shared)?;
            let object = Object::Manifest(manifest);
            files.push(encode(&object, DigestStrategy::default(), EncodingFormat::FlatBuffers)?);
        }
        report(shape, &files)?;
    }
    Ok(())
}

/// A layer of that many entries.
fn layer(
    number: usize,
    entries: usize,
    shared: bool,
) -> Result<Manifest, Box<dyn std::error::Error>> {
    let mut builder = ManifestBuilder::new();
    let mut left = entries;
    let mut level = Vec::new();
    // leaves first: directories of files, then directories of those, until all are in one
    while left > FILES_IN_DIRECTORY {
        let mut files = Vec::new();
        for file in 0..FILES_IN_DIRECTORY {
            let seed = format!("{number}/{left}/{file}");
            let name = format!("some_module_{file}_{number}.py");
            files.push(NewEntry {
                name: NameBuf::new(name.into_bytes())?,
                content: Content::Blob(BlobEntry {
                    mode: 0o100_644,
                    size: seed.len() as u64,
                    object: Digest::of(seed.as_bytes()),
                }),
            });
        }
        left -= FILES_IN_DIRECTORY + 1;
        level.push(builder.directory(files)?);
    }
    while level.len() > 1 {
        let mut above = Vec::new();
        for group in level.chunks(DIRECTORIES_IN_DIRECTORY) {
            let mut directories = Vec::new();
            for (place, &tree) in group.iter().enumerate() {
                directories.push(NewEntry {
                    name: NameBuf::new(format!("directory_{place}").into_bytes())?,
                    content: Content::Directory { mode: 0o040_755, tree },
                });
            }
            above.push(builder.directory(directories)?);
        }
        level = above;
    }
    let mut root = builder.directory(Vec::new())?;
    for tree in level {
        let name = if shared { "package".to_owned() } else { format!("package-{number}") };
        let name = NameBuf::new(name.into_bytes())?;
        let content = Content::Directory { mode: 0o040_755, tree };
        root = builder.directory(vec![NewEntry { name, content }])?;
    }
    Ok(builder.finish(root)?)
}

fn report(shape: &str, files: &[Vec<u8>]) -> Result<(), Box<dyn std::error::Error>> {
    let mut best: Option<(Duration, Duration)> = None;
    let mut summary = String::new();
    for _ in 0..5 {
        let start = Instant::now();
        let mut manifests = Vec::with_capacity(files.len());
        for bytes in files {
            if let Object::Manifest(manifest) = decode(bytes)?.1 {
                manifests.push(manifest);
            }
        }
        let decoded = start.elapsed();
        let start = Instant::now();
        let tree = merge(&manifests.iter().collect::<Vec<_>>());
        let merged = start.elapsed();
        if best.is_none_or(|(a, b)| decoded + merged < a + b) {
            best = Some((decoded, merged));
        }
        let stored: usize = manifests.iter().map(Manifest::len).sum();
        summary = format!(
            "{stored} entries in {} layers of {} MB together, {} nodes, {:.1} bytes a node, {} in the root",
            files.len(),
            files.iter().map(Vec::len).sum::<usize>() / 1_000_000,
            tree.len(),
            tree.memory() as f64 / tree.len() as f64,
            tree.children(Position::ROOT).len(),
        );
    }
    let (decoded, merged) = best.unwrap_or_default();
    writeln!(
        io::stdout(),
        "{shape}: {summary}\n  decode {decoded:.1?} + merge {merged:.1?} = {:.1?}",
        decoded + merged
    )?;
    Ok(())
}
