//! Compares content with the hash it is named by.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

use crate::names::is_hex;

/// The hash that names content on the Hub and its blob in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContentHash {
    /// Git's name for the blob: small files.
    Git(String),
    /// Of the content itself: large files.
    Sha256(String),
}

impl ContentHash {
    /// Reads an `etag` header, quoted or not, weak or not.
    pub(crate) fn from_etag(etag: &str) -> Option<Self> {
        let text = etag.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        if is_hex(text, 64) {
            Some(Self::Sha256(text.to_owned()))
        } else if is_hex(text, 40) {
            Some(Self::Git(text.to_owned()))
        } else {
            None
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Git(hash) | Self::Sha256(hash) => hash,
        }
    }
}

/// Hashes content while it is written.
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

    /// Whether `file`, which holds the same content, matches the expected hash.
    pub(crate) fn confirms(self, file: &mut File) -> io::Result<bool> {
        match self.expected {
            ContentHash::Sha256(expected) => Ok(hex(self.sha256) == *expected),
            // Git hashes the length first, which may be known only now. Such files are small.
            ContentHash::Git(_) => matches(file, self.expected),
        }
    }
}

/// Whether the content of a file matches `hash`.
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
    fn hashes_are_those_of_git_and_sha256sum() {
        let mut file = tempfile::tempfile().unwrap();
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
    }

    #[test]
    fn an_etag_is_a_content_hash_or_refused() {
        let sha256 = "a".repeat(64);
        let git = "0".repeat(40);
        let parse = ContentHash::from_etag;
        assert_eq!(parse(&format!("\"{sha256}\"")), Some(ContentHash::Sha256(sha256.clone())));
        assert_eq!(parse(&format!("W/\"{git}\"")), Some(ContentHash::Git(git)));
        for hostile in ["", "\"\"", "\"../../x\"", "\"5f3-abc\"", &"A".repeat(64), &"é".repeat(20)]
        {
            assert_eq!(parse(hostile), None, "{hostile}");
        }
    }
}
