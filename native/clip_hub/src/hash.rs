//! Comparing content with the hash it is named by.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::names::ContentHash;

/// A hash in the making, while content is written.
pub(crate) struct Hasher<'a> {
    expected: &'a ContentHash,
    sha256: Context,
}

impl<'a> Hasher<'a> {
    pub(crate) fn new(expected: &'a ContentHash) -> Self {
        Self { expected, sha256: Context::new(&SHA256) }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let ContentHash::Sha256(_) = self.expected {
            self.sha256.update(bytes);
        }
    }

    /// Whether `file`, which has what went by, is what was expected.
    pub(crate) fn confirms(self, file: &mut File) -> io::Result<bool> {
        match self.expected {
            ContentHash::Sha256(expected) => Ok(hex(self.sha256) == *expected),
            // Git hashes the length first, which may only be known now. Such files are small.
            ContentHash::Git(_) => matches(file, self.expected),
        }
    }
}

/// Whether a file has the content that is named by `hash`.
pub(crate) fn matches(file: &mut File, hash: &ContentHash) -> io::Result<bool> {
    let (mut context, expected) = match hash {
        ContentHash::Sha256(expected) => (Context::new(&SHA256), expected),
        ContentHash::Git(expected) => {
            let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            context.update(format!("blob {}\0", file.metadata()?.len()).as_bytes());
            (context, expected)
        }
    };
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(context) == *expected),
            Ok(count) => context.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_hashes_of_git_and_sha256sum() {
        let path = std::env::temp_dir().join(format!("clip-hub-hash-{}", std::process::id()));
        let options = &mut File::options();
        let mut file = options.read(true).write(true).create_new(true).open(&path).unwrap();
        file.write_all(b"hello world\n").unwrap();
        let git = "3b18e512dba79e4c8300dd08aeb37f8e728b8dad";
        let sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
        for hash in [git, sha256] {
            let hash = ContentHash::from_etag(hash).unwrap();
            assert!(matches(&mut file, &hash).unwrap());
            let mut hasher = Hasher::new(&hash);
            hasher.update(b"hello ");
            hasher.update(b"world\n");
            assert!(hasher.confirms(&mut file).unwrap());
        }
        file.write_all(b"!").unwrap();
        assert!(!matches(&mut file, &ContentHash::Git(git.to_owned())).unwrap());
        assert!(!matches(&mut file, &ContentHash::Sha256(sha256.to_owned())).unwrap());
        std::fs::remove_file(path).unwrap();
    }
}
