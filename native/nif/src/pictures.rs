//! Pictures to pixels, on threads of their own.
//!
//! A decoder takes up to seconds, and dirty schedulers are the application's: here a call only
//! queues the picture, on whatever scheduler it is made, and a worker sends what came of it.

use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clip::budget::Memory;
use clip::image::{self, Background, ColorProfile, DecodeOptions, Rgb};
use clip::pool::{Pool, Task, Ticket};
use clip::{Budget, Error, ErrorKind, Limits, Preprocessing};
use nif_terms::{Failure, PreprocessingTerm, guarded};
use rustler::env::SavedTerm;
use rustler::{
    Atom, Binary, Env, LocalPid, NifMap, NifTaggedEnum, NifUnitEnum, NifUntaggedEnum, OwnedEnv,
    Resource, ResourceArc, Term,
};

use crate::layout::Layout;
use crate::prepared::{Prepared, Show};

/// As many threads as the machine runs at once: decoding never waits for anything.
static POOL: LazyLock<Pool<Picture>> =
    LazyLock::new(|| Pool::new("clip-pixels", available_parallelism().map_or(1, Into::into)));

/// What all pictures that are decoded at the same time may hold.
static MEMORY: Memory = Memory::new(1 << 30);

mod atoms {
    rustler::atoms! { cancelled, sent }
}

/// A picture that was handed in. Losing it takes nothing back.
struct JobResource(Ticket);

#[rustler::resource_impl]
impl Resource for JobResource {}

type Job = ResourceArc<JobResource>;

/// Hands a picture in. The caller will get `{tag, {:ok, pixels}}` or `{tag, {:error, failure}}`, and
/// with `show` what [`Prepared`] says.
///
/// Pictures of one owner, a number of the caller's choice, wait for each other and not for those of
/// others. `timeout` is in milliseconds. Takes as long for a large picture as for a small one: the
/// bytes are shared, not copied.
#[rustler::nif]
fn preprocess(
    env: Env<'_>,
    tag: Term<'_>,
    source: Source<'_>,
    preprocessing: PreprocessingTerm,
    options: ImageOptions,
    (owner, timeout): (u64, Option<u64>),
    show: Option<Show>,
) -> Result<Job, Failure> {
    guarded(|| {
        let terms = OwnedEnv::new();
        let preprocessing = preprocessing.into();
        let limits = options.limits();
        let picture = Picture {
            owner,
            weight: source.weight(&limits),
            caller: env.pid(),
            deadline: timeout
                .and_then(|left| Instant::now().checked_add(Duration::from_millis(left))),
            tag: terms.save(tag),
            source: terms.save(source),
            limits,
            options: options.decoding(&preprocessing),
            preprocessing,
            show,
            terms,
        };
        Ok(ResourceArc::new(JobResource(POOL.submit(picture)?)))
    })
}

/// Takes a picture back. After `cancelled` no message will come; after `sent` it has come, or is
/// about to.
#[rustler::nif]
fn preprocess_cancel(job: Job) -> Result<Atom, Failure> {
    guarded(|| Ok(if job.0.cancel() { atoms::cancelled() } else { atoms::sent() }))
}

/// Whether a picture of this size is within limits, as decoders ask for one of a file.
#[rustler::nif]
fn check_picture_size(
    (height, width): (u64, u64),
    max_pixels: u64,
    max_side: u32,
) -> Result<(), Failure> {
    guarded(|| Limits { max_pixels, max_side, ..Limits::default() }.check_size(width, height))
}

/// Whether a picture of `len` bytes is within a limit; `None` for one that is longer, whose length is
/// unknown.
#[rustler::nif]
fn check_picture_bytes(len: Option<usize>, max_bytes: u64) -> Result<(), Failure> {
    let limits = Limits { max_bytes, ..Limits::default() };
    guarded(|| len.map_or_else(|| Err(limits.grown()), |len| limits.check_bytes(len)))
}

/// What the threads are doing, and what memory they have reserved.
#[rustler::nif]
fn pixel_threads() -> Result<PixelThreads, Failure> {
    guarded(|| {
        let load = POOL.load();
        Ok(PixelThreads {
            threads: load.threads,
            busy: load.busy,
            waiting: load.waiting,
            oldest_ms: load.oldest.map_or(0, milliseconds),
            wait_ms: milliseconds(load.wait),
            each_ms: milliseconds(load.each),
            memory: MEMORY.used(),
        })
    })
}

fn milliseconds(time: Duration) -> u64 {
    time.as_millis().try_into().unwrap_or(u64::MAX)
}

/// `%{threads: 2, busy: 1, waiting: 0, oldest_ms: 12, wait_ms: 0, each_ms: 25, memory: 36_000_000}`.
#[derive(NifMap)]
#[rustler(encode)]
struct PixelThreads {
    threads: usize,
    busy: usize,
    waiting: usize,
    oldest_ms: u64,
    wait_ms: u64,
    each_ms: u64,
    memory: u64,
}

/// A picture, and where its pixels go.
struct Picture {
    terms: OwnedEnv,
    owner: u64,
    weight: u64,
    caller: LocalPid,
    deadline: Option<Instant>,
    tag: SavedTerm,
    source: SavedTerm,
    preprocessing: Preprocessing,
    show: Option<Show>,
    options: DecodeOptions,
    limits: Limits,
}

impl Task for Picture {
    type Output = Prepared;

    fn owner(&self) -> u64 {
        self.owner
    }

    fn weight(&self) -> u64 {
        self.weight
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn longest(&self) -> Duration {
        self.limits.max_decode_time
    }

    fn wanted(&self) -> bool {
        self.terms.run(|env| self.caller.is_alive(env))
    }

    fn run(&self, cancelled: &dyn Fn() -> bool) -> clip::Result<Prepared> {
        self.terms.run(|env| {
            let source = self.source.load(env).decode::<Source<'_>>();
            let source = source
                .map_err(|_| Error::new(ErrorKind::Internal, "the picture's term changed"))?;
            let wanted = || !cancelled() && self.caller.is_alive(env);
            let budget = Budget::new(self.limits)
                .until(self.deadline)
                .while_wanted(&wanted)
                .sharing(&MEMORY);
            let (preprocessing, show) = (&self.preprocessing, self.show.as_ref());
            if let Source::Encoded(bytes) = source
                && !Show::views(show)
            {
                let read = preprocessing.read(&bytes, &self.options, &budget)?;
                return Prepared::new(read.pixels, read.size, preprocessing, show);
            }
            let rgb = source.decode(&self.options, &budget)?;
            Prepared::of_rgb(&rgb, preprocessing, show)
        })
    }

    fn reply(mut self, result: clip::Result<Prepared>) {
        let result = result.map_err(Failure::from);
        let tag = self.tag;
        // Who has ended in the meantime misses nothing.
        let _ = self.terms.send_and_clear(&self.caller, |env| (tag.load(env), result));
    }
}

/// `{:encoded, bytes}`, `{:raw, bytes, height, width, channels}` or `{:numbers, bytes, layout}`.
#[derive(NifTaggedEnum)]
enum Source<'a> {
    Encoded(Binary<'a>),
    Raw(Binary<'a>, u32, u32, u32),
    Numbers(Binary<'a>, Layout),
    /// Panics, for the tests of what becomes of it.
    Drill,
    /// Takes as long as it may, likewise.
    Spin,
}

impl Source<'_> {
    fn weight(&self, limits: &Limits) -> u64 {
        match self {
            Self::Encoded(bytes) => image::work(bytes, limits),
            Self::Raw(bytes, ..) | Self::Numbers(bytes, _) => image::work_of_pixels(bytes.len()),
            Self::Drill | Self::Spin => image::work_of_pixels(0),
        }
    }

    /// The picture's upright RGB pixels.
    fn decode(&self, options: &DecodeOptions, budget: &Budget<'_>) -> clip::Result<Rgb> {
        match self {
            Self::Encoded(bytes) => image::decode(bytes, options, budget),
            Self::Raw(bytes, height, width, channels) => {
                image::from_raw(bytes, *height, *width, *channels, options, budget)
            }
            Self::Numbers(bytes, layout) => {
                image::from_numbers(&layout.numbers(bytes), options, budget)
            }
            #[allow(clippy::panic)]
            Self::Drill => panic!("drill"),
            Self::Spin => loop {
                budget.check()?;
            },
        }
    }
}

/// Whether every pixel of a picture is decoded.
#[derive(NifUnitEnum, Clone, Copy, PartialEq, Eq)]
enum Decode {
    Exact,
    Fast,
}

/// What becomes of an embedded colour profile.
#[derive(NifUnitEnum, Clone, Copy)]
enum ColorProfileTerm {
    Ignore,
    Srgb,
}

impl From<ColorProfileTerm> for ColorProfile {
    fn from(term: ColorProfileTerm) -> Self {
        match term {
            ColorProfileTerm::Ignore => Self::Ignore,
            ColorProfileTerm::Srgb => Self::Srgb,
        }
    }
}

/// `{red, green, blue}` or `:drop`.
#[derive(NifUntaggedEnum)]
enum BackgroundTerm {
    Color((u8, u8, u8)),
    Word(Word),
}

#[derive(NifUnitEnum)]
enum Word {
    Drop,
}

/// How a picture is decoded, and what it may cost.
#[derive(NifMap)]
struct ImageOptions {
    decode: Decode,
    background: BackgroundTerm,
    color_profile: ColorProfileTerm,
    max_pixels: u64,
    max_side: u32,
    max_bytes: u64,
    max_decode_bytes: u64,
    max_decode_ms: u64,
}

impl ImageOptions {
    fn limits(&self) -> Limits {
        Limits {
            max_pixels: self.max_pixels,
            max_side: self.max_side,
            max_bytes: self.max_bytes,
            max_decode_bytes: self.max_decode_bytes,
            max_decode_time: Duration::from_millis(self.max_decode_ms),
        }
    }

    fn decoding(&self, preprocessing: &Preprocessing) -> DecodeOptions {
        let background = match self.background {
            BackgroundTerm::Color((red, green, blue)) => Background::Color([red, green, blue]),
            BackgroundTerm::Word(Word::Drop) => Background::Drop,
        };
        let least_side = (self.decode == Decode::Fast).then(|| preprocessing.least_side());
        DecodeOptions { background, color_profile: self.color_profile.into(), least_side }
    }
}
