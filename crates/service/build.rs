//! Compiles the control protocol without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/vfs.proto");
    let descriptors = protox::compile(["proto/vfs.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".spfs_vfs")
        .compile_fds(descriptors)?;
    Ok(())
}
