//! The chunks of a PNG that count here.

use std::borrow::Cow;

use super::super::format::Format;
use super::super::{broken, unsupported};
use super::{MARK, text};
use crate::error::Result;

/// Where ImageMagick puts Exif, as hexadecimal text.
const RAW_EXIF: &[u8] = b"Raw profile type exif";
const XMP: &[u8] = b"XML:com.adobe.xmp";

/// Length and name before the data of a chunk; after it comes a checksum.
const HEAD: usize = 8;
const CHECKSUM: usize = 4;

/// The chunks of a file, as slices of it. Of several of a kind the last counts, as in Pillow.
#[derive(Default)]
pub(super) struct Chunks<'a> {
    /// The first chunk, with its head and checksum.
    pub(super) header: &'a [u8],
    /// The first run of `IDAT` chunks, with their heads and checksums.
    pub(super) pixels: &'a [u8],
    /// Where the last `IDAT` begins in `pixels`, if the file ends within it.
    pub(super) cut: Option<usize>,
    pub(super) palette: Option<&'a [u8]>,
    pub(super) transparency: Option<&'a [u8]>,
    profile: Option<&'a [u8]>,
    exif: Option<&'a [u8]>,
    raw_exif: Option<text::Text<'a>>,
    xmp: Option<text::Text<'a>>,
    animated: bool,
}

impl<'a> Chunks<'a> {
    /// Walks through the file, to its end or to the second frame of an animation.
    pub(super) fn walk(bytes: &'a [u8]) -> Result<Self> {
        let mut chunks = Self::default();
        let mut at = MARK.len();
        while let Some(chunk) = Chunk::at(bytes, at) {
            match &chunk.name {
                b"IDAT" if chunks.header.is_empty() => {
                    return Err(broken(Format::Png, "its header is not the first chunk"));
                }
                b"IDAT" if chunks.pixels.is_empty() => at = chunks.take_pixels(bytes, at),
                b"CgBI" => return Err(unsupported(Format::Png, "Apple's variant of it (CgBI)")),
                b"IEND" => break,
                b"fcTL" if chunks.animated && !chunks.pixels.is_empty() => break,
                _ => {
                    let Some(data) = chunk.data else {
                        return Err(broken(Format::Png, "its end is missing"));
                    };
                    chunks.take(&chunk.name, data);
                    if chunks.header.is_empty() {
                        chunks.header = &bytes[at..chunk.end.min(bytes.len())];
                    }
                    at = chunk.end;
                }
            }
        }
        if chunks.pixels.is_empty() {
            return Err(broken(Format::Png, "it has no pixels"));
        }
        Ok(chunks)
    }

    /// Takes the `IDAT` chunks that begin here, and gives their end.
    fn take_pixels(&mut self, bytes: &'a [u8], start: usize) -> usize {
        let mut at = start;
        while let Some(chunk) = Chunk::at(bytes, at).filter(|chunk| &chunk.name == b"IDAT") {
            if chunk.end > bytes.len() {
                self.cut = Some(at - start);
            }
            at = chunk.end;
        }
        at = at.min(bytes.len());
        self.pixels = &bytes[start..at];
        at
    }

    fn take(&mut self, name: &[u8; 4], data: &'a [u8]) {
        match name {
            b"PLTE" if self.pixels.is_empty() => self.palette = Some(data),
            // Pillow takes it behind the pixels too.
            b"tRNS" => self.transparency = Some(data),
            b"iCCP" if self.pixels.is_empty() => self.profile = Some(data),
            b"acTL" => self.animated = data.len() >= 8 && data[..4] > [0, 0, 0, 1][..],
            b"eXIf" => self.exif = Some(data),
            b"tEXt" | b"zTXt" | b"iTXt" => {
                let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
                let text = text::Text { kind: name[0], data: data.get(end + 1..).unwrap_or(b"") };
                match &data[..end] {
                    b"exif" if name == b"tEXt" => self.exif = Some(text.data),
                    RAW_EXIF => self.raw_exif = Some(text),
                    XMP => self.xmp = Some(text),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// The Exif block, a chunk of its own or ImageMagick's text.
    pub(super) fn exif(&self) -> Option<Cow<'a, [u8]>> {
        if let Some(exif) = self.exif {
            return Some(Cow::Borrowed(exif));
        }
        self.raw_exif.as_ref()?.read().and_then(|text| text::raw_profile(&text)).map(Cow::Owned)
    }

    /// The colour profile, of at most `most` bytes, or what is wrong with it.
    pub(super) fn profile(&self, most: usize) -> Result<Option<Vec<u8>>, String> {
        let Some(chunk) = self.profile else { return Ok(None) };
        let end = chunk.iter().position(|byte| *byte == 0);
        let packed = end.and_then(|end| chunk[end + 1..].strip_prefix(&[0]));
        let packed = packed.ok_or("it is not compressed as it should be")?;
        text::inflate_whole(packed, most as u64).map(Some)
    }

    pub(super) fn xmp(&self) -> Option<Cow<'a, [u8]>> {
        self.xmp.as_ref()?.read()
    }
}

struct Chunk<'a> {
    name: [u8; 4],
    /// `None` if the file ends within it.
    data: Option<&'a [u8]>,
    /// Where the checksum ends, which the file may lack.
    end: usize,
}

impl<'a> Chunk<'a> {
    /// `None` where no chunk begins.
    fn at(bytes: &'a [u8], at: usize) -> Option<Self> {
        let [a, b, c, d, name @ ..] = *bytes.get(at..)?.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let named = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        named.then(|| Self {
            name,
            data: bytes.get(at + HEAD..at + HEAD + length),
            end: at + HEAD + length + CHECKSUM,
        })
    }
}
