//! A scripted HTTP server, faults included. It stops by itself.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Longest time a connection is held open without sending.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) head: String,
}

impl Request {
    pub(crate) fn is_get(&self, end: &str) -> bool {
        self.method == "GET" && self.path.ends_with(end)
    }

    pub(crate) fn is_head(&self, end: &str) -> bool {
        self.method == "HEAD" && self.path.ends_with(end)
    }
}

/// Way of sending the body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Whole,
    /// Closed after so many bytes.
    Cut(usize),
    /// Reset after so many bytes.
    Reset(usize),
    /// Silent after so many bytes.
    Stall(usize),
    /// So many bytes at a time, with a pause after each.
    Slow(usize, Duration),
    /// In chunks, so that nobody knows the length beforehand.
    Chunked,
}

#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Arc<Vec<u8>>,
    pub(crate) how: How,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Arc::default(), how: How::Whole }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = Arc::new(body.to_vec());
        self.with("content-length", body.len())
    }

    pub(crate) fn how(mut self, how: How) -> Self {
        self.how = how;
        self
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    /// Pieces of slow bodies sent so far.
    pieces: AtomicUsize,
    stopped: AtomicBool,
}

pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

impl Server {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (script, ours): (Arc<Script>, _) = (Arc::new(script), shared.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.stopped.load(Ordering::Relaxed) {
                    break;
                }
                let (script, ours) = (script.clone(), ours.clone());
                // A client may go away.
                thread::spawn(move || stream.and_then(|s| serve(s, &script, &ours)).ok());
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until so many pieces of slow bodies have been sent.
    pub(crate) fn wait_for_pieces(&self, count: usize) {
        let end = Instant::now() + PATIENCE;
        while self.shared.pieces.load(Ordering::Relaxed) < count && Instant::now() < end {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, script: &Arc<Script>, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut byte = [0];
    // The last byte stays unread: closing then resets the connection.
    while !head.ends_with(b"\r\n\r") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut words = head.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let request = Request { method, path, head };
    shared.requests.lock().unwrap().push(request.clone());
    let reply = script(&request);
    if !matches!(reply.how, How::Reset(_)) {
        stream.read_exact(&mut byte)?;
    }
    answer(&mut stream, &request, &reply, shared)
}

fn answer(
    stream: &mut TcpStream,
    request: &Request,
    reply: &Reply,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Reason\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if matches!(reply.how, How::Chunked) {
        head.push_str("transfer-encoding: chunked\r\n");
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if request.method == "HEAD" {
        return Ok(());
    }
    send(stream, reply, shared)
}

fn send(stream: &mut TcpStream, reply: &Reply, shared: &Shared) -> std::io::Result<()> {
    let body = &reply.body;
    match reply.how {
        How::Whole => stream.write_all(body),
        How::Cut(count) => stream.write_all(&body[..count]),
        How::Reset(count) => {
            stream.write_all(&body[..count])?;
            thread::sleep(Duration::from_millis(50));
            Ok(())
        }
        How::Stall(count) => {
            stream.write_all(&body[..count])?;
            hold(shared);
            Ok(())
        }
        How::Slow(count, pause) => slowly(stream, body, count, pause, shared),
        How::Chunked => chunked(stream, body),
    }
}

fn hold(shared: &Shared) {
    let end = Instant::now() + PATIENCE;
    while !shared.stopped.load(Ordering::Relaxed) && Instant::now() < end {
        thread::sleep(Duration::from_millis(10));
    }
}

fn slowly(
    stream: &mut TcpStream,
    body: &[u8],
    count: usize,
    pause: Duration,
    shared: &Shared,
) -> std::io::Result<()> {
    let end = Instant::now() + PATIENCE;
    for piece in body.chunks(count) {
        if shared.stopped.load(Ordering::Relaxed) || Instant::now() > end {
            break;
        }
        stream.write_all(piece)?;
        shared.pieces.fetch_add(1, Ordering::Relaxed);
        thread::sleep(pause);
    }
    Ok(())
}

fn chunked(stream: &mut TcpStream, body: &[u8]) -> std::io::Result<()> {
    for piece in body.chunks(1 << 16) {
        stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
    }
    stream.write_all(b"0\r\n\r\n")
}
