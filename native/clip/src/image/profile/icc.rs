//! What an ICC profile has to hold to be converted from.
//!
//! The crate that converts parses all that a profile holds, also texts in a thousand languages that
//! all lie at the same place, and counts on more than a hostile one fulfils. So it gets a profile of
//! only the tags that are needed, after they were checked.

/// Length of the header, and of an entry in the list of tags behind it.
const HEADER: usize = 128;
const ENTRY: usize = 12;

/// No profile of a camera, a monitor or a press has nearly as many.
const MAX_TAGS: usize = 100;

/// Tags of a conversion by tables: colorimetric, and the one for whatever is not there.
const TABLES: [&[u8; 4]; 2] = [b"A2B1", b"A2B0"];

/// The pixels that a profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Rgb,
    Cmyk,
}

impl Space {
    /// `None` for one that no pixels here are in.
    fn of(header: &[u8]) -> Option<Self> {
        match &header[16..20] {
            b"GRAY" => Some(Self::Grey),
            b"RGB " => Some(Self::Rgb),
            b"CMYK" => Some(Self::Cmyk),
            _ => None,
        }
    }

    fn channels(self) -> u8 {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
            Self::Cmyk => 4,
        }
    }

    /// Tags of a conversion by curves and a matrix.
    fn curves(self) -> &'static [&'static [u8; 4]] {
        match self {
            Self::Grey => &[b"kTRC"],
            Self::Rgb => &[b"rXYZ", b"gXYZ", b"bXYZ", b"rTRC", b"gTRC", b"bTRC"],
            Self::Cmyk => &[],
        }
    }
}

/// A profile of only the tags that are needed; `None` if it is for pixels that do not exist here, or
/// what is wrong with it.
pub(super) fn needed(profile: &[u8]) -> Result<Option<(Space, Vec<u8>)>, String> {
    let Some((header, rest)) = profile.split_first_chunk::<HEADER>() else {
        return Err("it is cut short".into());
    };
    if &header[36..40] != b"acsp" {
        return Err("it is not an ICC profile".into());
    }
    check_class(header)?;
    let tags = Tags::read(profile, rest)?;
    let Some(space) = Space::of(header) else { return Ok(None) };
    let needed = match tags.table(space)? {
        Some(table) => vec![(TABLES[0], table)],
        None => tags.curves(space)?,
    };
    Ok(Some((space, written(header, &needed))))
}

/// A tag's name and what it holds.
type Tag<'a> = (&'static [u8; 4], &'a [u8]);

/// The list of tags: name, offset and length of each.
struct Tags<'a> {
    profile: &'a [u8],
    list: &'a [u8],
}

impl<'a> Tags<'a> {
    fn read(profile: &'a [u8], rest: &'a [u8]) -> Result<Self, String> {
        let (count, list) = rest.split_first_chunk().ok_or("it is cut short")?;
        let count = u32::from_be_bytes(*count) as usize;
        if count > MAX_TAGS {
            return Err(format!("it has {count} tags, the limit is {MAX_TAGS}"));
        }
        let list = list.get(..count * ENTRY).ok_or("its list of tags is cut short")?;
        Ok(Self { profile, list })
    }

    fn find(&self, name: &[u8; 4]) -> Result<Option<&'a [u8]>, String> {
        let Some(tag) = self.list.chunks_exact(ENTRY).find(|tag| tag.starts_with(name)) else {
            return Ok(None);
        };
        let [at, length] = [4, 8].map(|at| number(&tag[at..]) as usize);
        let data = self.profile.get(at..at.saturating_add(length));
        let data = data.filter(|data| data.len() >= ENTRY);
        data.map(Some).ok_or_else(|| format!("its tag {} is cut short", name.escape_ascii()))
    }

    /// Tables from the colours of the picture to those that all profiles share.
    fn table(&self, space: Space) -> Result<Option<&'a [u8]>, String> {
        if space == Space::Grey {
            return Ok(None);
        }
        for name in TABLES {
            if let Some(table) = self.find(name)? {
                check_table(table, space)?;
                return Ok(Some(table));
            }
        }
        Ok(None)
    }

    fn curves(&self, space: Space) -> Result<Vec<Tag<'a>>, String> {
        if space.curves().is_empty() {
            return Err("it has no tables".into());
        }
        let curve = |name: &&'static [u8; 4]| {
            let data = self.find(name)?;
            let data = data.ok_or_else(|| format!("it has no tag {}", name.escape_ascii()))?;
            Ok((*name, data))
        };
        let tags = space.curves().iter().map(curve).collect::<Result<Vec<_>, String>>()?;
        if space == Space::Rgb {
            check_white(&tags)?;
        }
        Ok(tags)
    }
}

/// Refuses profiles that do not say which colours the pixels of a picture are.
fn check_class(header: &[u8]) -> Result<(), String> {
    match &header[12..16] {
        b"scnr" | b"mntr" | b"prtr" | b"spac" => Ok(()),
        b"link" => Err("it links two devices and describes no picture's colours".into()),
        b"abst" => Err("it changes colours and describes no picture's".into()),
        b"nmcl" => Err("it names single colours and describes no picture's".into()),
        class => Err(format!("it is of the class {}", class.escape_ascii())),
    }
}

/// White of all profiles' common space, as parts of 65536.
const WHITE: [i64; 3] = [63_190, 65_536, 54_061];

/// The three primaries together are white. Real profiles are off by less than a hundredth, and old
/// ones with the white of their monitor by a third; with absurd numbers, every pixel would come out
/// black or white.
fn check_white(tags: &[Tag<'_>]) -> Result<(), String> {
    let part = |tag: &[u8], axis: usize| {
        let at = tag.get(8 + 4 * axis..).map_or(0, number);
        i64::from(at.cast_signed())
    };
    for (axis, white) in WHITE.iter().enumerate() {
        let sum: i64 = tags[..3].iter().map(|(_, tag)| part(tag, axis)).sum();
        if (sum - white).abs() > 65_536 / 2 {
            return Err("its primaries do not add up to white".into());
        }
    }
    Ok(())
}

/// Refuses tables for other channels than they are used for, and those with nothing to interpolate.
fn check_table(table: &[u8], space: Space) -> Result<(), String> {
    let [from, to] = [table[8], table[9]];
    if (from, to) != (space.channels(), 3) {
        return Err(format!("its tables are from {from} to {to} channels"));
    }
    let channels = usize::from(from);
    let grid = match &table[..4] {
        b"mft1" | b"mft2" => table.get(10..11),
        b"mAB " => match table.get(24..28).map(|at| number(at) as usize) {
            Some(0) => return Ok(()),
            at => at.and_then(|at| table.get(at..at.saturating_add(channels))),
        },
        kind => return Err(format!("its tables are of the type {}", kind.escape_ascii())),
    };
    match grid {
        Some(grid) if grid.iter().all(|points| *points >= 2) => Ok(()),
        _ => Err("its tables have no grid".into()),
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// A profile of this header and these tags.
fn written(header: &[u8; HEADER], tags: &[Tag<'_>]) -> Vec<u8> {
    let mut profile = header.to_vec();
    // A date that is none would be an error.
    profile[24..36].fill(0);
    profile.extend((tags.len() as u32).to_be_bytes());
    let mut at = HEADER + 4 + tags.len() * ENTRY;
    for (name, data) in tags {
        profile.extend(*name);
        profile.extend([at as u32, data.len() as u32].map(u32::to_be_bytes).concat());
        at += data.len().next_multiple_of(4);
    }
    for (_, data) in tags {
        profile.extend(*data);
        profile.resize(profile.len().next_multiple_of(4), 0);
    }
    profile
}
