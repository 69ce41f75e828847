//! DETECT and BYTES on what fuzzing found worth keeping: every input in `core/fuzz/corpus` is read
//! once more, as the fuzzer reads it, and is answered or refused.
#![expect(clippy::disallowed_methods, reason = "tests look at files from outside the engine")]

use std::path::Path;

use toykv::sim::Part;

#[path = "../../fuzz/src/lib.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the fuzzer's programs share")]
mod fuzz;

type Reader = fn(&[u8]);

const READERS: [(&str, Reader); 10] = [
    ("frames", |bytes| Part::Frames.read(bytes)),
    ("rewritten", |bytes| Part::Rewritten.read(bytes)),
    ("block", |bytes| Part::Block.read(bytes)),
    ("locator", |bytes| Part::Locator.read(bytes)),
    ("footer", |bytes| Part::Footer.read(bytes)),
    ("edit", |bytes| Part::Edit.read(bytes)),
    ("manifest", |bytes| Part::Manifest.read(bytes)),
    ("batch", |bytes| Part::Batch.read(bytes)),
    ("directory", fuzz::open_directory),
    ("model", fuzz::model::run),
];

#[test]
fn every_input_that_fuzzing_kept_is_answered_or_refused() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, read) in READERS {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpora.join(target)).expect(target) {
            let path = entry.unwrap().path();
            // A panic says which input it was: the test's output is shown when it fails.
            println!("{}", path.display());
            read(&std::fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no input");
    }
}
