//! Every sample ever released decodes for ever.

#![expect(clippy::unwrap_used, reason = "a test fails on the spot")]

use std::fs;
use std::path::PathBuf;

use millrace_wire::{ControlV1, FinishedV1, JobV1, Message, decode};

fn decode_all<B: Message>() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../schemas")
        .join(B::KIND)
        .join("samples");
    let mut seen = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        decode::<B>(&fs::read(&path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        seen += 1;
    }
    assert!(seen > 0, "{} holds no sample", folder.display());
}

#[test]
fn released_samples_decode() {
    decode_all::<JobV1>();
    decode_all::<FinishedV1>();
    decode_all::<ControlV1>();
}
