//! The code of the replication protocol's messages, generated from `replication.proto` without
//! `protoc`.
//!
//! The code is committed, so that no build needs this package. A test compares it; `cargo run -p wire`
//! writes it.

use std::path::{Path, PathBuf};

use prost_build::{Config, Module};
use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::Type;

/// The directory with the definition and the code.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../backends/replication/src/wire")
}

/// The file with the code.
pub fn committed() -> PathBuf {
    directory().join("proto.rs")
}

/// The code that belongs to the definition.
///
/// # Panics
///
/// If the definition is none.
pub fn generate() -> String {
    let compiled = protox::compile(["replication.proto"], [directory()]);
    let mut files = compiled.unwrap_or_else(|error| panic!("{error:?}"));
    leave_lists_encoded(&mut files);
    let requests = files.file.into_iter().map(|file| {
        let module = Module::from_protobuf_package_name(file.package());
        (module, file)
    });
    let generated = Config::new().btree_map(["."]).generate(requests.collect());
    let modules = generated.unwrap_or_else(|error| panic!("{error}"));
    modules.into_values().collect()
}

/// Makes fields of a type whose name ends in `List` bytes, which takes the same form on the wire: the
/// elements are decoded one by one, no more of them than there may be.
fn leave_lists_encoded(files: &mut FileDescriptorSet) {
    let messages = files.file.iter_mut().flat_map(|file| &mut file.message_type);
    for field in messages.flat_map(|message| &mut message.field) {
        if field.type_name().ends_with("List") {
            field.set_type(Type::Bytes);
            field.type_name = None;
        }
    }
}
