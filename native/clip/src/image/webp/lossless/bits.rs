//! Bits of a stream, the lowest of each byte first.

/// The stream ends, or is none.
#[derive(Debug)]
pub(super) struct Damaged;

/// Where a stream is read.
#[derive(Debug)]
pub(super) struct Bits<'a> {
    rest: &'a [u8],
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, held: 0, count: 0 }
    }

    /// The next `count` bits, at most 24, as a number.
    pub(super) fn read(&mut self, count: u32) -> Result<u32, Damaged> {
        while self.count < count {
            let (byte, rest) = self.rest.split_first().ok_or(Damaged)?;
            self.held |= u64::from(*byte) << self.count;
            (self.rest, self.count) = (rest, self.count + 8);
        }
        let value = self.held & ((1 << count) - 1);
        (self.held, self.count) = (self.held >> count, self.count - count);
        Ok(value as u32)
    }
}
