//! Nearest neighbours, on threads of their own.
//!
//! A call only hands a question in; the caller gets `{tag, {:ok, value}}` or `{tag, {:error, failure}}`.
//! What is large is read on the thread that works with it, not on the scheduler.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clip::pool::{Pool, Task, Ticket};
use clip::search::{
    Asker, Hit, Id, Ids, Index, Model, Query, Search, SearchThreads, Settings, Storage,
};
use clip::{Error, ErrorKind};
use nif_terms::{Failure, Floats, guarded};
use rustler::env::SavedTerm;
use rustler::{
    Atom, Binary, Encoder, Env, LocalPid, NewBinary, NifMap, NifTaggedEnum, NifUnitEnum, OwnedEnv,
    Resource, ResourceArc, Term,
};

/// Together they take all cores for one search.
static THREADS: LazyLock<SearchThreads> =
    LazyLock::new(|| SearchThreads::new(available_parallelism().map_or(1, Into::into)));

/// Reading and writing files takes seconds, in which nobody else should wait.
static FILES: LazyLock<Pool<FileTask>> = LazyLock::new(|| Pool::new("clip-index", 2));

mod atoms {
    rustler::atoms! { cancelled, sent, done }
}

struct IndexResource {
    index: Arc<Index>,
    /// Whether no id was ever put that means nothing elsewhere, such as a process.
    portable: AtomicBool,
}

impl IndexResource {
    fn new(index: Index) -> ResourceArc<Self> {
        ResourceArc::new(Self { index: Arc::new(index), portable: AtomicBool::new(true) })
    }
}

#[rustler::resource_impl]
impl Resource for IndexResource {}

struct SearchResource(Ticket);

#[rustler::resource_impl]
impl Resource for SearchResource {}

type IndexRef = ResourceArc<IndexResource>;

#[rustler::nif]
fn index_new(storage: StorageTerm, max_size: u32) -> Result<IndexRef, Failure> {
    guarded(|| Ok(IndexResource::new(Index::new(Settings { storage: storage.into(), max_size }))))
}

#[rustler::nif]
fn index_info(index: IndexRef) -> Result<IndexInfo, Failure> {
    guarded(|| {
        let portable = index.portable.load(Ordering::Acquire);
        let (index, settings) = (&index.index, index.index.settings());
        Ok(IndexInfo {
            size: index.size(),
            max_size: settings.max_size,
            storage: settings.storage.into(),
            bytes: index.bytes(),
            waiting: index.waiting(),
            changes: index.changes(),
            portable,
            model: index.model().cloned().map(ModelTerm::from),
        })
    })
}

/// Changes an index, or asks what it holds.
#[rustler::nif]
fn index_ask<'a>(
    env: Env<'a>,
    tag: Term<'a>,
    index: IndexRef,
    question: Term<'a>,
) -> Result<Atom, Failure> {
    guarded(|| {
        let asker = Caller::new(env, tag);
        let question = asker.terms.save(question);
        THREADS.run(move || {
            let result = guarded(|| {
                asker.terms.run(|env| match question.load(env).decode() {
                    Ok(question) => answer(&index, &question),
                    Err(_) => Err(Error::new(ErrorKind::InvalidArgument, "no such question")),
                })
            });
            asker.send(result);
        })?;
        Ok(atoms::sent())
    })
}

fn answer(resource: &IndexResource, question: &Question<'_>) -> clip::Result<Answer> {
    let index = &resource.index;
    Ok(match question {
        Question::Put(model, ids, rows, portable) => {
            resource.portable.fetch_and(*portable, Ordering::AcqRel);
            let ids = Ids(ids.as_slice()).iter().map(Id::from).collect();
            index.put(&model.into(), ids, &Floats::read(rows)?)?;
            Answer::Done
        }
        Question::Delete(ids) => Answer::Count(index.delete(Ids(ids.as_slice()).iter())),
        Question::Member(id) => Answer::Flag(index.has(id)),
        Question::Ids(from, to) => Answer::Ids(index.ids(*from, *to)),
    })
}

/// Hands a search in. Those of one owner, a number of the caller's choice, wait for each other.
#[rustler::nif]
fn index_search(
    env: Env<'_>,
    tag: Term<'_>,
    index: IndexRef,
    query: QueryTerm<'_>,
    options: SearchOptions<'_>,
    owner: u64,
) -> Result<ResourceArc<SearchResource>, Failure> {
    guarded(|| {
        let query = match query {
            QueryTerm::Vector(model, row) => {
                Query::Vector((&model).into(), Floats::read(&row)?.into_owned())
            }
            QueryTerm::Id(id) => Query::Id(id.to_vec()),
        };
        let search = Search {
            query,
            most: options.most,
            // Every score is an f32.
            #[allow(clippy::cast_possible_truncation)]
            least: options.least.map(|least| least as f32),
            only: options.only.map(|ids| Ids(ids.to_vec())),
            asker: Box::new(Caller::new(env, tag)),
            ticket: Ticket::default(),
        };
        Ok(ResourceArc::new(SearchResource(THREADS.search(&index.index, owner, search)?)))
    })
}

/// Takes a search back. After `cancelled` no message will come; after `sent` it has come, or is about
/// to.
#[rustler::nif]
fn index_cancel(job: ResourceArc<SearchResource>) -> Result<Atom, Failure> {
    guarded(|| Ok(if job.0.cancel() { atoms::cancelled() } else { atoms::sent() }))
}

#[rustler::nif]
fn index_save(
    env: Env<'_>,
    tag: Term<'_>,
    index: IndexRef,
    path: Binary<'_>,
) -> Result<Atom, Failure> {
    let work = Work::Save(Arc::clone(&index.index), path.to_vec());
    submit(FileTask { caller: Caller::new(env, tag), work })
}

#[rustler::nif]
fn index_load(
    env: Env<'_>,
    tag: Term<'_>,
    path: Binary<'_>,
    max_size: u32,
) -> Result<Atom, Failure> {
    let work = Work::Load(path.to_vec(), max_size);
    submit(FileTask { caller: Caller::new(env, tag), work })
}

fn submit(task: FileTask) -> Result<Atom, Failure> {
    guarded(|| FILES.submit(task).map(|_| atoms::sent()))
}

/// A file to be read or written.
struct FileTask {
    caller: Caller,
    work: Work,
}

enum Work {
    Save(Arc<Index>, Vec<u8>),
    Load(Vec<u8>, u32),
}

impl Task for FileTask {
    /// The error is a result too: a pool repeats work that fails as busy, and a caller is told
    /// that somebody else saves to the same place.
    type Output = clip::Result<Answer>;

    fn owner(&self) -> u64 {
        0
    }

    fn weight(&self) -> u64 {
        1
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn longest(&self) -> Duration {
        Duration::MAX
    }

    fn wanted(&self) -> bool {
        self.caller.is_alive()
    }

    fn run(&self, _cancelled: &dyn Fn() -> bool) -> clip::Result<clip::Result<Answer>> {
        Ok(match &self.work {
            Work::Save(index, path) => {
                index.save(OsStr::from_bytes(path).as_ref()).map(|()| Answer::Done)
            }
            Work::Load(path, max_size) => Index::load(OsStr::from_bytes(path).as_ref(), *max_size)
                .map(|index| Answer::Index(IndexResource::new(index))),
        })
    }

    fn reply(self, result: clip::Result<clip::Result<Answer>>) {
        self.caller.send(result.and_then(|result| result).map_err(Failure::from));
    }
}

/// Who asked, and the tag of the answer.
struct Caller {
    terms: OwnedEnv,
    pid: LocalPid,
    tag: SavedTerm,
}

impl Caller {
    fn new(env: Env<'_>, tag: Term<'_>) -> Self {
        let terms = OwnedEnv::new();
        let tag = terms.save(tag);
        Self { terms, pid: env.pid(), tag }
    }

    fn is_alive(&self) -> bool {
        self.terms.run(|env| self.pid.is_alive(env))
    }

    fn send(mut self, result: Result<Answer, Failure>) {
        let tag = self.tag;
        // Who has ended in the meantime misses nothing.
        let _ = self.terms.send_and_clear(&self.pid, |env| (tag.load(env), result));
    }
}

impl Asker for Caller {
    fn wanted(&self) -> bool {
        self.is_alive()
    }

    fn reply(self: Box<Self>, result: clip::Result<Vec<Hit>>) {
        self.send(result.map(Answer::Hits).map_err(Failure::from));
    }
}

enum Answer {
    Done,
    Flag(bool),
    Count(usize),
    Ids(Vec<Id>),
    Hits(Vec<Hit>),
    Index(IndexRef),
}

impl Encoder for Answer {
    fn encode<'a>(&self, env: Env<'a>) -> Term<'a> {
        match self {
            Self::Done => atoms::done().encode(env),
            Self::Flag(flag) => flag.encode(env),
            Self::Count(count) => count.encode(env),
            Self::Ids(ids) => ids.iter().map(|id| binary(env, id)).collect::<Vec<_>>().encode(env),
            Self::Hits(hits) => {
                let hits = hits.iter().map(|hit| (binary(env, &hit.id), f64::from(hit.score)));
                hits.collect::<Vec<_>>().encode(env)
            }
            Self::Index(index) => index.encode(env),
        }
    }
}

fn binary<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let mut binary = NewBinary::new(env, bytes.len());
    binary.as_mut_slice().copy_from_slice(bytes);
    Binary::from(binary).encode(env)
}

/// What `index_ask` takes. Ids are packed, rows are floats of the machine.
#[derive(NifTaggedEnum)]
enum Question<'a> {
    Put(ModelTerm, Binary<'a>, Binary<'a>, bool),
    Delete(Binary<'a>),
    Member(Binary<'a>),
    Ids(usize, usize),
}

/// `{:vector, model, row}` or `{:id, id}`.
#[derive(NifTaggedEnum)]
enum QueryTerm<'a> {
    Vector(ModelTerm, Binary<'a>),
    Id(Binary<'a>),
}

#[derive(NifMap)]
struct SearchOptions<'a> {
    most: usize,
    least: Option<f64>,
    only: Option<Binary<'a>>,
}

#[derive(NifMap)]
struct ModelTerm {
    name: String,
    commit: Option<String>,
    dim: usize,
}

impl From<&ModelTerm> for Model {
    fn from(term: &ModelTerm) -> Self {
        Self { name: term.name.clone(), commit: term.commit.clone(), dim: term.dim }
    }
}

impl From<Model> for ModelTerm {
    fn from(model: Model) -> Self {
        Self { name: model.name, commit: model.commit, dim: model.dim }
    }
}

/// What an index is and holds.
#[derive(NifMap)]
#[rustler(encode)]
struct IndexInfo {
    size: usize,
    max_size: u32,
    storage: StorageTerm,
    bytes: usize,
    waiting: usize,
    changes: usize,
    portable: bool,
    model: Option<ModelTerm>,
}

#[derive(NifUnitEnum)]
enum StorageTerm {
    F32,
    F16,
    I8,
}

impl From<StorageTerm> for Storage {
    fn from(term: StorageTerm) -> Self {
        match term {
            StorageTerm::F32 => Self::F32,
            StorageTerm::F16 => Self::F16,
            StorageTerm::I8 => Self::I8,
        }
    }
}

impl From<Storage> for StorageTerm {
    fn from(storage: Storage) -> Self {
        match storage {
            Storage::F32 => Self::F32,
            Storage::F16 => Self::F16,
            Storage::I8 => Self::I8,
        }
    }
}
