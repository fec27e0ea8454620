//! What tells weights without a commit from others of the same name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::files;

/// Bytes of a sample, and samples of a file. A file no longer than all of them is read whole; to read
/// the gigabytes of larger ones would take longer than to load the model. Training changes nearly
/// every number, so samples differ too.
const SAMPLE: u64 = 16 * 1024;
const SAMPLES: u64 = 256;

/// A hash of the content of files, independent of their names, places and times.
///
/// # Errors
/// If a file cannot be read, or is not a regular one.
pub fn fingerprint<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<u64> {
    let mut hash = Fnv1a::default();
    for path in paths {
        let file = files::open(path)?;
        let length = file.metadata()?.len();
        hash.update(&length.to_le_bytes());
        sample(&file, length, &mut hash)?;
    }
    Ok(hash.0)
}

fn sample(file: &File, length: u64, hash: &mut Fnv1a) -> io::Result<()> {
    let count = length.div_ceil(SAMPLE).min(SAMPLES);
    let mut bytes = [0; SAMPLE as usize];
    for i in 0..count {
        // Side by side, or spread evenly from the beginning to the end.
        let spread = length.saturating_sub(SAMPLE) * i / (SAMPLES - 1);
        let from = if count < SAMPLES { SAMPLE * i } else { spread };
        let piece = &mut bytes[..SAMPLE.min(length - from) as usize];
        file.read_exact_at(piece, from)?;
        hash.update(piece);
    }
    Ok(())
}

/// A hash that is the same in every build, unlike the standard library's.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv1a {
    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn written(name: &str, bytes: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("fingerprint-{}-{name}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn of(name: &str, bytes: &[u8]) -> u64 {
        let path = written(name, bytes);
        let hash = fingerprint([path.as_path()]).unwrap();
        std::fs::remove_file(path).unwrap();
        hash
    }

    #[test]
    fn content_counts_and_the_name_does_not() {
        for length in [0, 1, SAMPLE, SAMPLE + 1, SAMPLE * SAMPLES, SAMPLE * SAMPLES + 7] {
            let mut bytes = vec![7; length as usize];
            let hash = of("a", &bytes);
            assert_eq!(of("b", &bytes), hash);
            if let Some(last) = bytes.last_mut() {
                *last = 8;
                assert_ne!(of("a", &bytes), hash, "{length}");
            }
            bytes.push(7);
            assert_ne!(of("a", &bytes), hash, "{length}");
        }
    }

    #[test]
    fn a_long_file_is_told_by_its_samples() {
        let bytes: Vec<u8> = (0..40_000_000_u32).map(|i| (i % 251) as u8).collect();
        let hash = of("long", &bytes);
        // As training does: another number in a hundred.
        let trained: Vec<u8> =
            bytes.iter().enumerate().map(|(i, b)| if i % 100 == 0 { b ^ 1 } else { *b }).collect();
        assert_ne!(of("long", &trained), hash);
    }

    #[test]
    fn what_is_not_a_file_is_an_error() {
        assert!(fingerprint([std::env::temp_dir().as_path()]).is_err());
        assert!(fingerprint([Path::new("/no/such/file")]).is_err());
    }
}
