//! Text in a PNG: plain, or compressed to at most [`MAX_TEXT`] bytes.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

/// Text that is longer is not read. The bound is Pillow's.
const MAX_TEXT: u64 = 1 << 20;

/// The data of a text chunk behind its key.
pub(super) struct Text<'a> {
    /// The first letter of the chunk's name.
    pub(super) kind: u8,
    pub(super) data: &'a [u8],
}

impl<'a> Text<'a> {
    /// The text, if it can be read.
    pub(super) fn read(&self) -> Option<Cow<'a, [u8]>> {
        match (self.kind, self.data) {
            (b't', text) => Some(Cow::Borrowed(text)),
            (b'z', [0, packed @ ..]) => inflate(packed).map(Cow::Owned),
            (b'i', [packed, method, rest @ ..]) => {
                // A language, and the key in that language.
                let text = rest.splitn(3, |byte| *byte == 0).nth(2)?;
                match (packed, method) {
                    (0, _) => Some(Cow::Borrowed(text)),
                    (_, 0) => inflate(text).map(Cow::Owned),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What can be inflated of a stream, unless that is too much.
fn inflate(packed: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    // Of a broken stream, what came before counts.
    let _ = ZlibDecoder::new(packed).take(MAX_TEXT + 1).read_to_end(&mut text);
    (text.len() as u64 <= MAX_TEXT).then_some(text)
}

/// All that a stream holds, or what is wrong with it. The check at the end of the stream counts.
pub(super) fn inflate_whole(packed: &[u8], most: u64) -> Result<Vec<u8>, String> {
    let mut data = Vec::new();
    let read = ZlibDecoder::new(packed).take(most + 1).read_to_end(&mut data);
    read.map_err(|error| format!("it cannot be inflated: {error}"))?;
    if data.len() as u64 > most {
        return Err(format!("it inflates to more than {most} bytes"));
    }
    Ok(data)
}

/// The bytes of one of ImageMagick's raw profiles: an empty line, its type, its length, and
/// hexadecimal digits.
pub(super) fn raw_profile(text: &[u8]) -> Option<Vec<u8>> {
    let lines = text.splitn(4, |byte| *byte == b'\n').nth(3)?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> =
        lines.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| digit(*byte)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKED: &[u8] = b"\x78\x9c\xcb\xcc\x2b\x28\x2d\x01\0\x06\x78\x02\x31";

    fn read(kind: u8, data: &[u8]) -> Option<Vec<u8>> {
        Text { kind, data }.read().map(Cow::into_owned)
    }

    #[test]
    fn text_is_read_plain_and_compressed() {
        assert_eq!(read(b't', b"input").unwrap(), b"input");
        assert_eq!(read(b'z', &[b"\0", PACKED].concat()).unwrap(), b"input");
        assert_eq!(read(b'i', b"\0\0en\0key\0input").unwrap(), b"input");
        assert_eq!(read(b'i', &[b"\x01\0\0\0", PACKED].concat()).unwrap(), b"input");
    }

    #[test]
    fn text_in_another_form_is_not_read() {
        assert_eq!(read(b'z', b""), None);
        assert_eq!(read(b'z', &[b"\x01", PACKED].concat()), None);
        assert_eq!(read(b'i', b"\0\0en"), None);
        assert_eq!(read(b'i', &[b"\x01\x01\0\0", PACKED].concat()), None);
    }

    #[test]
    fn all_of_a_stream_is_inflated_or_nothing() {
        assert_eq!(inflate_whole(PACKED, 5).unwrap(), b"input");
        assert_eq!(inflate_whole(PACKED, 4).unwrap_err(), "it inflates to more than 4 bytes");
        let mut wrong = PACKED.to_vec();
        *wrong.last_mut().unwrap() += 1;
        for torn in [&PACKED[..11], &wrong, b""] {
            let why = inflate_whole(torn, 5).unwrap_err();
            assert!(why.starts_with("it cannot be inflated: "), "{why}");
        }
    }

    #[test]
    fn of_a_torn_stream_what_came_before_counts() {
        assert_eq!(inflate(&PACKED[..11]).unwrap(), b"input");
    }

    #[test]
    fn a_raw_profile_is_hexadecimal() {
        assert_eq!(raw_profile(b"\nexif\n       3\n4a\n4B4c\n").unwrap(), b"JKL");
        assert_eq!(raw_profile(b"\nexif\n"), None);
        assert_eq!(raw_profile(b"\nexif\n 1\n4"), None);
        assert_eq!(raw_profile(b"\nexif\n 1\n4g"), None);
    }
}
