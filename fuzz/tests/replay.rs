//! Every target over its corpus, and over each seed with deterministic changes: cut off, with bits
//! flipped, with octets repeated. No search: that is `make fuzz`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use culvert_fuzz::TARGETS;

/// Changes of each seed.
const CHANGES: u64 = 64;

fn seeds(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let content = fs::read(&path).unwrap();
            (path, content)
        })
        .collect()
}

/// A generator that gives the same numbers everywhere (Knuth's MMIX).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

fn changed(seed: &[u8], number: u64) -> Vec<u8> {
    let mut numbers = Numbers(number);
    let mut data = seed.to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(data.len());
        match numbers.below(4) {
            0 => data.truncate(at),
            1 => {
                if let Some(octet) = data.get_mut(at) {
                    *octet ^= 1 << numbers.below(8);
                }
            }
            2 => {
                if let Some(octet) = data.get_mut(at) {
                    *octet = [0, 0xff, b'"', b'<', b'\n'][numbers.below(5)];
                }
            }
            _ => {
                let end = (at + numbers.below(40)).min(data.len());
                let piece = data[at.min(end)..end].to_vec();
                data.splice(at..at, piece);
            }
        }
    }
    data
}

#[test]
fn the_corpus_and_what_is_near_it() {
    std::thread::scope(|threads| {
        for target in TARGETS {
            threads.spawn(move || {
                let seeds = seeds(target.name);
                assert!(!seeds.is_empty(), "{} has no seeds", target.name);
                (target.run)(&[]);
                for (path, seed) in seeds {
                    // Shown when the target panics.
                    println!("{}", path.display());
                    (target.run)(&seed);
                    for number in 0..CHANGES {
                        (target.run)(&changed(&seed, number));
                    }
                }
            });
        }
    });
}

#[test]
fn the_corpus_has_no_folder_without_a_target() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for folder in fs::read_dir(corpus).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(culvert_fuzz::target(&name).is_some(), "{name}");
    }
}
