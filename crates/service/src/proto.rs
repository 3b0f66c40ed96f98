//! The messages and stubs of `proto/vfs.proto`.

#![expect(unreachable_pub, reason = "generated code")]

tonic::include_proto!("spfs_vfs");
