//! The segments that a JPEG consists of.

use memchr::memchr;

const END: u8 = 0xd9;

/// Walks from marker to marker, up to the end of the picture, and gives each with its payload. What
/// lies between two segments, such as coded pixels, is passed over, exactly as libjpeg-turbo does.
#[derive(Debug, Clone)]
pub(crate) struct Segments<'a> {
    rest: &'a [u8],
    restarts: u64,
    last_restart: Option<u8>,
}

impl<'a> Segments<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes.get(2..).unwrap_or_default(), restarts: 0, last_restart: None }
    }

    /// What was not walked yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many restart markers were passed since this was last asked, and the last one's number.
    pub(crate) fn take_restarts(&mut self) -> (u64, Option<u8>) {
        (std::mem::take(&mut self.restarts), self.last_restart.take())
    }

    /// The next marker with a meaning of its own. Stuffed zeros, fill bytes, restart markers and
    /// reserved markers, which have no length, belong to the pixels.
    fn next_marker(&mut self) -> Option<u8> {
        loop {
            self.rest = &self.rest[memchr(0xff, self.rest)? + 1..];
            let marker = *self.rest.first()?;
            if marker != 0xff {
                self.rest = &self.rest[1..];
            }
            match marker {
                0xd0..=0xd7 => {
                    self.restarts += 1;
                    self.last_restart = Some(marker & 7);
                }
                0x00..=0xbf | 0xff => {}
                marker => return Some(marker),
            }
        }
    }
}

impl<'a> Segments<'a> {
    /// The next segment, if its marker stands within so many bytes.
    pub(crate) fn next_within(&mut self, bytes: usize) -> Option<(u8, &'a [u8])> {
        let near = &self.rest[..self.rest.len().min(bytes)];
        Self { rest: near, restarts: 0, last_restart: None }.next_marker()?;
        self.next()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let marker = self.next_marker()?;
        // The end has no payload, and nothing counts after it.
        if marker == END {
            self.rest = &[];
            return Some((marker, &[]));
        }
        let length = self.rest.first_chunk().map_or(0, |length| u16::from_be_bytes(*length));
        // The length counts its own two bytes.
        let (segment, rest) = self.rest.split_at(usize::from(length).max(2).min(self.rest.len()));
        self.rest = rest;
        Some((marker, segment.get(2..).unwrap_or_default()))
    }
}
