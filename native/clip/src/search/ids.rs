//! The ids of vectors.

use std::sync::Arc;

/// The id of a vector: bytes of the caller's choice.
pub type Id = Arc<[u8]>;

/// Ids one after the other, each behind its length (u32 in the byte order of the machine).
#[derive(Debug, Clone, Default)]
pub struct Ids<B = Vec<u8>>(pub B);

impl<B: AsRef<[u8]>> Ids<B> {
    /// The ids, up to the first one that is cut short.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_ref();
        std::iter::from_fn(move || {
            let (len, after) = rest.split_first_chunk()?;
            let (id, after) = after.split_at_checked(u32::from_ne_bytes(*len) as usize)?;
            rest = after;
            Some(id)
        })
    }
}

impl<I: AsRef<[u8]>> FromIterator<I> for Ids {
    fn from_iter<T: IntoIterator<Item = I>>(ids: T) -> Self {
        let mut bytes = Vec::new();
        for id in ids {
            let id = id.as_ref();
            // An id has at most 65,536 bytes.
            #[allow(clippy::cast_possible_truncation)]
            bytes.extend((id.len() as u32).to_ne_bytes());
            bytes.extend(id);
        }
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_were_written() {
        let ids = ["one", "", "three"];
        let packed: Ids = ids.iter().collect();
        assert!(packed.iter().eq(ids.iter().map(|id| id.as_bytes())));
        let cut = Ids(&packed.0[..packed.0.len() - 1]);
        assert_eq!(cut.iter().count(), 2);
        assert_eq!(Ids::<Vec<u8>>::default().iter().count(), 0);
    }
}
