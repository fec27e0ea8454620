//! The colour profile of a JPEG, which lies in numbered parts.

use std::borrow::Cow;

use super::SCAN;
use super::segments::Segments;
use crate::limits::MAX_PROFILE;

const APP2: u8 = 0xe2;
const MARK: &[u8] = b"ICC_PROFILE\0";

/// The profile, or what is wrong with its parts. They may be in any order.
pub(in crate::image) fn profile(bytes: &[u8]) -> Result<Option<Cow<'_, [u8]>>, String> {
    let header = Segments::of(bytes).take_while(|(marker, _)| *marker != SCAN);
    let found = header.filter(|(marker, _)| *marker == APP2);
    let mut parts: [Option<&[u8]>; 256] = [None; 256];
    let mut all = None;
    for payload in found.filter_map(|(_, payload)| payload.strip_prefix(MARK)) {
        let [number, count, part @ ..] = payload else { return Err("a part is cut short".into()) };
        if *all.get_or_insert(*count) != *count {
            return Err("its parts tell of different numbers of parts".into());
        }
        if *number == 0 || number > count {
            return Err(format!("it has a part {number} of {count}"));
        }
        if parts[usize::from(*number)].replace(part).is_some() {
            return Err(format!("it has part {number} of {count} twice"));
        }
    }
    let Some(count) = all else { return Ok(None) };
    match &parts[1..=usize::from(count)] {
        [Some(part)] => Ok(Some(Cow::Borrowed(part))),
        parts => joined(parts).map(|profile| Some(Cow::Owned(profile))),
    }
}

fn joined(parts: &[Option<&[u8]>]) -> Result<Vec<u8>, String> {
    if parts.iter().flatten().map(|part| part.len()).sum::<usize>() > MAX_PROFILE {
        return Err(format!("it is larger than {MAX_PROFILE} bytes"));
    }
    let mut profile = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        let missing = || format!("part {} of {} is missing", at + 1, parts.len());
        profile.extend(part.ok_or_else(missing)?);
    }
    Ok(profile)
}
