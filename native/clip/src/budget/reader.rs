//! A file in memory as decoders read it, until its budget is spent.

use std::io::{self, BufRead, Read, Seek, SeekFrom};

use super::{Budget, CHECK_BYTES};

/// A clock is read once for so many reads of fewer bytes than [`CHECK_BYTES`].
const CHECK_READS: u32 = 1 << 10;

/// A file in memory, read on a [`Budget`].
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: u64,
    unchecked: u64,
    reads: u32,
    budget: &'a Budget<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], budget: &'a Budget<'a>) -> Self {
        Self { bytes, at: 0, unchecked: 0, reads: 0, budget }
    }

    fn rest(&self) -> &[u8] {
        let at = usize::try_from(self.at).unwrap_or(usize::MAX).min(self.bytes.len());
        &self.bytes[at..]
    }

    fn spend(&mut self, bytes: usize) -> io::Result<()> {
        self.unchecked += bytes as u64;
        self.reads += 1;
        if self.unchecked < CHECK_BYTES && self.reads < CHECK_READS {
            return Ok(());
        }
        let charged = self.budget.charge_read(self.unchecked, self.bytes.len() as u64);
        (self.unchecked, self.reads) = (0, 0);
        charged.and_then(|()| self.budget.check()).map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.budget.refusal.replace(Some(error));
            told
        })
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest().read(buffer)?;
        self.spend(count)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl BufRead for Reader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.spend(0)?;
        let rest = self.rest();
        Ok(&rest[..rest.len().min(CHECK_BYTES as usize)])
    }

    fn consume(&mut self, count: usize) {
        self.at += count as u64;
        self.unchecked += count as u64;
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (self.bytes.len() as u64, by),
            SeekFrom::Current(by) => (self.at, by),
        };
        let at = from.checked_add_signed(by);
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::MAX_PASSES;
    use super::*;
    use crate::error::ErrorKind;
    use crate::limits::Limits;

    #[test]
    fn a_reader_reads_and_seeks_like_a_cursor() {
        let bytes: Vec<u8> = (0..200_000).map(|i| (i % 251) as u8).collect();
        let budget = Budget::new(Limits::default());
        let mut reader = budget.reader(&bytes);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
        assert_eq!(reader.seek(SeekFrom::End(-3)).unwrap(), 199_997);
        assert_eq!(reader.fill_buf().unwrap(), &bytes[199_997..]);
        assert_eq!(reader.seek(SeekFrom::Start(1 << 40)).unwrap(), 1 << 40);
        assert_eq!(reader.fill_buf().unwrap(), b"");
        assert!(reader.seek(SeekFrom::Current(i64::MIN)).is_err());
    }

    #[test]
    fn reading_the_same_bytes_again_and_again_is_refused_with_the_figure() {
        let bytes = vec![0; 100_000];
        let budget = Budget::new(Limits::default());
        let mut reader = budget.reader(&bytes);
        let mut passes = 0;
        let failed = loop {
            reader.seek(SeekFrom::Start(0)).unwrap();
            match reader.read_to_end(&mut Vec::new()) {
                Ok(_) if passes < 100 => passes += 1,
                other => break other,
            }
        };
        assert!(failed.is_err());
        assert_eq!(passes, MAX_PASSES);
        let error = budget.refusal().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidImage);
        assert!(error.to_string().contains("read more than 400000 bytes"), "{error}");
    }

    #[test]
    fn a_deadline_ends_a_read() {
        let bytes = vec![0; 100_000];
        let budget = Budget::new(Limits::default()).until(Some(Instant::now()));
        budget.reader(&bytes).read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(budget.refusal().unwrap().kind(), ErrorKind::Timeout);
        assert!(budget.refusal().is_none());
    }
}
