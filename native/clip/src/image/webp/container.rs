//! The chunks of a WebP file: which one is the first picture, and where it belongs.
//!
//! The rules are those of libwebp's demuxer and decoder together, which Pillow uses. A file that they
//! refuse is refused here, even where more could be made of it.

use super::damaged;
use super::frame::{Coded, Frame};
use crate::error::Result;
use crate::limits::Limits;

/// Length of what precedes the first chunk.
const RIFF: usize = 12;

/// Length of what precedes the data of a chunk.
const HEAD: usize = 8;

/// Length of what precedes the chunks of a frame of an animation.
const FRAME_HEAD: usize = 16;

const ANIMATION: u8 = 0x02;
const XMP: u8 = 0x04;
const EXIF: u8 = 0x08;
pub(super) const ALPHA: u8 = 0x10;
const COLOR_PROFILE: u8 = 0x20;
const KNOWN: u8 = ANIMATION | XMP | EXIF | ALPHA | COLOR_PROFILE;

/// The first picture of a file.
#[derive(Debug)]
pub(super) struct Container<'a> {
    /// Width and height of the canvas.
    pub(super) canvas: (u32, u32),
    /// Where the frame begins on it: column and row.
    pub(super) at: (u32, u32),
    pub(super) frame: Frame<'a>,
    /// Whether alpha counts.
    pub(super) alpha: bool,
    /// The first of each kind, where the file's flags tell of it.
    pub(super) exif: Option<&'a [u8]>,
    pub(super) xmp: Option<&'a [u8]>,
    pub(super) profile: Option<&'a [u8]>,
}

impl<'a> Container<'a> {
    pub(super) fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self> {
        let length = bytes.get(4..).and_then(|rest| rest.first_chunk::<4>());
        let length = length.ok_or_else(|| damaged("its header ends too early"))?;
        let end = (u32::from_le_bytes(*length) as usize).saturating_add(HEAD);
        // A torn upload may have all pixels and lack what follows them, the orientation for one.
        let body = bytes.get(RIFF..end).ok_or_else(|| damaged("its end is missing"))?;
        let mut chunks = Chunks(body);
        match chunks.peek()?.0 {
            b"VP8X" => Extended::read(chunks, limits),
            b"VP8 " | b"VP8L" => Self::simple(&mut chunks, limits),
            _ => Err(damaged("it begins with neither pixels nor a canvas")),
        }
    }

    fn simple(chunks: &mut Chunks<'a>, limits: &Limits) -> Result<Self> {
        let frame = Parts::read(chunks, limits)?.frame(false)?;
        let canvas = (frame.width, frame.height);
        let alpha = frame.is_transparent();
        Ok(Self { canvas, at: (0, 0), frame, alpha, exif: None, xmp: None, profile: None })
    }

    /// The frame covers its canvas.
    pub(super) fn is_full(&self) -> bool {
        self.canvas == (self.frame.width, self.frame.height)
    }
}

/// A file with a canvas, as far as it is read.
struct Extended<'a, 'b> {
    flags: u8,
    canvas: (u32, u32),
    limits: &'b Limits,
    /// What frames of an animation need before them.
    announced: bool,
    first: Option<((u32, u32), Frame<'a>)>,
    exif: Option<&'a [u8]>,
    xmp: Option<&'a [u8]>,
    profile: Option<&'a [u8]>,
}

impl<'a, 'b> Extended<'a, 'b> {
    fn read(mut chunks: Chunks<'a>, limits: &'b Limits) -> Result<Container<'a>> {
        let (_, head) = chunks.take()?;
        let [flags, _, _, _, a, b, c, d, e, f] = *head else {
            return Err(damaged("its canvas has no size"));
        };
        let canvas = (u24([a, b, c]) + 1, u24([d, e, f]) + 1);
        limits.check_size(canvas.0, canvas.1)?;
        if flags & !KNOWN != 0 {
            return Err(damaged("its flags are not those of the format"));
        }
        let mut file = Self {
            flags,
            canvas,
            limits,
            announced: false,
            first: None,
            exif: None,
            xmp: None,
            profile: None,
        };
        while !chunks.0.is_empty() {
            file.chunk(&mut chunks)?;
        }
        file.finish()
    }

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    fn chunk(&mut self, chunks: &mut Chunks<'a>) -> Result<()> {
        match chunks.peek()? {
            (b"VP8X", _) => return Err(damaged("it has two canvases")),
            (b"ALPH" | b"VP8 " | b"VP8L", _) => return self.still(chunks),
            (b"ANMF", _) => return self.frame(chunks),
            (b"ANIM", data) if data.len().next_multiple_of(2) < 6 => {
                return Err(damaged("its animation has no head"));
            }
            (b"ANIM", _) => self.announced = true,
            (b"EXIF", data) if self.has(EXIF) => self.exif = self.exif.or(Some(data)),
            (b"ICCP", data) if self.has(COLOR_PROFILE) => {
                self.profile = self.profile.or(Some(data));
            }
            (b"XMP ", data) if self.has(XMP) => self.xmp = self.xmp.or(Some(data)),
            _ => {}
        }
        chunks.take().map(|_| ())
    }

    /// A picture that is not part of an animation, the only one and as large as the canvas.
    fn still(&mut self, chunks: &mut Chunks<'a>) -> Result<()> {
        if self.announced || self.has(ANIMATION) || self.first.is_some() {
            return Err(damaged("it has pixels where none belong"));
        }
        let frame = Parts::read(chunks, self.limits)?.frame(self.has(ALPHA))?;
        if (frame.width, frame.height) != self.canvas {
            return Err(damaged("its picture is not as large as its canvas"));
        }
        self.first = Some(((0, 0), frame));
        Ok(())
    }

    /// A frame of an animation. How large it says it is does not count, its pixels say it again.
    fn frame(&mut self, chunks: &mut Chunks<'a>) -> Result<()> {
        let (_, data) = chunks.peek()?;
        if !self.announced {
            return Err(damaged("its animation has no head"));
        }
        let [a, b, c, d, e, f, ..] = *data.get(..FRAME_HEAD).unwrap_or_default() else {
            return Err(damaged("a frame of its animation ends too early"));
        };
        // What follows the pixels inside the frame is read as if it stood outside.
        let after = chunks.0.len() - HEAD - data.len() - data.len() % 2;
        chunks.0 = &chunks.0[HEAD + FRAME_HEAD..];
        let parts = Parts::read(chunks, self.limits)?;
        if chunks.0.len() < after {
            return Err(damaged("a frame of its animation ends too early"));
        }
        if self.has(ANIMATION) && !parts.is_empty() {
            let at = (2 * u24([a, b, c]), 2 * u24([d, e, f]));
            let frame = parts.frame(true)?;
            if at.0 + frame.width > self.canvas.0 || at.1 + frame.height > self.canvas.1 {
                return Err(damaged("a frame of its animation does not fit the canvas"));
            }
            self.first = self.first.or(Some((at, frame)));
        }
        Ok(())
    }

    fn finish(self) -> Result<Container<'a>> {
        let alpha = self.has(ALPHA);
        let Self { canvas, exif, xmp, profile, .. } = self;
        let (at, frame) = self.first.ok_or_else(|| damaged("it has no pixels"))?;
        // Of lossless pixels the pixels themselves say whether alpha counts, but in an animation.
        let alpha = match frame.coded {
            Coded::Lossless(_) if self.flags & ANIMATION == 0 => frame.is_transparent(),
            _ => alpha,
        };
        Ok(Container { canvas, at, frame, alpha, exif, xmp, profile })
    }
}

/// Chunks of pixels and of alpha that follow each other: at most one of each.
#[derive(Debug, Default)]
struct Parts<'a> {
    alpha: Option<&'a [u8]>,
    /// The plane comes before the pixels.
    in_order: bool,
    frame: Option<Frame<'a>>,
}

impl<'a> Parts<'a> {
    fn read(chunks: &mut Chunks<'a>, limits: &Limits) -> Result<Self> {
        let mut parts = Self::default();
        loop {
            match chunks.peek()? {
                (b"ALPH", data) if parts.alpha.is_none() => {
                    (parts.alpha, parts.in_order) = (Some(data), parts.frame.is_none());
                }
                (b"VP8L", _) if parts.alpha.is_some() => {
                    return Err(damaged("its lossless pixels have alpha twice"));
                }
                (b"VP8L", data) if parts.frame.is_none() => {
                    parts.frame = Some(Frame::lossless(chunks.padded(data), limits)?);
                }
                (b"VP8 ", data) if parts.frame.is_none() => {
                    parts.frame = Some(Frame::lossy(data, limits)?);
                }
                _ => return Ok(parts),
            }
            chunks.take()?;
            if chunks.0.is_empty() {
                return Ok(parts);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.alpha.is_none() && self.frame.is_none()
    }

    /// The pixels, with their alpha if the file tells of it.
    fn frame(self, has_alpha: bool) -> Result<Frame<'a>> {
        let mut frame = self.frame.ok_or_else(|| damaged("it has no pixels"))?;
        let plane = self.alpha.filter(|_| has_alpha);
        if plane.is_some() && !self.in_order {
            return Err(damaged("its alpha follows its pixels"));
        }
        if let Coded::Lossy { alpha, .. } = &mut frame.coded {
            *alpha = plane;
        }
        Ok(frame)
    }
}

/// Chunks up to the end of the file.
#[derive(Debug)]
struct Chunks<'a>(&'a [u8]);

impl<'a> Chunks<'a> {
    /// The next chunk: its name and its data.
    fn peek(&self) -> Result<(&'a [u8; 4], &'a [u8])> {
        let cut = || damaged("its last chunk is cut short");
        let (name, rest) = self.0.split_first_chunk::<4>().ok_or_else(cut)?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_le_bytes(*length) as usize;
        // The byte that makes an odd length even has to be there too.
        let padded = length.checked_next_multiple_of(2).and_then(|padded| rest.get(..padded));
        let data = padded.ok_or_else(cut)?;
        Ok((name, &data[..length]))
    }

    /// The data of the next chunk with the byte that makes its length even, which libwebp reads as a
    /// part of lossless pixels.
    fn padded(&self, data: &[u8]) -> &'a [u8] {
        &self.0[HEAD..][..data.len().next_multiple_of(2)]
    }

    fn take(&mut self) -> Result<(&'a [u8; 4], &'a [u8])> {
        let (name, data) = self.peek()?;
        self.0 = &self.0[HEAD + data.len().next_multiple_of(2)..];
        Ok((name, data))
    }
}

fn u24([a, b, c]: [u8; 3]) -> u32 {
    u32::from_le_bytes([a, b, c, 0])
}
