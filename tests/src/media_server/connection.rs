//! One connection: requests in, answers out, as badly as they are asked for.

use std::{fmt::Write as _, io, ops::Range, time::Duration, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Answer, Request, Route, State};

const LAST_MODIFIED: &str = "Thu, 01 Oct 2026 10:00:00 GMT";

/// Serves requests until either side closes the connection.
pub(super) async fn serve(state: &State, mut socket: TcpStream) {
    let _ = socket.set_nodelay(true);
    while let Ok(Some(request)) = read_head(&mut socket).await {
        let (route, number) = note(state, &request);
        // An error means that the client has gone away.
        match answer(state, &mut socket, &request, route.as_deref(), number).await {
            Ok(After::KeepOpen) => {}
            Ok(After::Close) | Err(_) => break,
        }
    }
    let _ = socket.shutdown().await;
}

enum After {
    KeepOpen,
    Close,
}

/// Remembers a request; gives what is served there, and the number of the request since that is so.
fn note(state: &State, request: &Request) -> (Option<std::sync::Arc<Route>>, usize) {
    let mut inner = state.lock();
    inner.requests.push(request.clone());
    let route = inner.routes.get(&request.path).cloned();
    let number = inner.requests_of(&request.path).count() - route.as_ref().map_or(0, |route| route.asked_before);
    drop(inner);
    state.changed();
    (route, number)
}

async fn read_head(socket: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 64 * 1024 {
            return Ok(None);
        }
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
    }
    let text = String::from_utf8_lossy(&head);
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    // Who takes this for a proxy names the whole address.
    let path = target.strip_prefix("http://").map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    Ok(Some(Request { method: method.to_owned(), path: path.to_owned(), headers, at: Instant::now() }))
}

async fn answer(
    state: &State,
    socket: &mut TcpStream,
    request: &Request,
    route: Option<&Route>,
    number: usize,
) -> io::Result<After> {
    let Some(route) = route else { return plain(socket, 404, &[]).await };
    match route.answer(number) {
        Answer::Status(status, retry_after) => {
            let retry = retry_after.map(|seconds| ("retry-after", seconds.to_string()));
            plain(socket, *status, retry.as_slice()).await
        }
        Answer::Redirect(status, to) => plain(socket, *status, &[("location", to.clone())]).await,
        Answer::Silence => silence(socket).await,
        Answer::HangUp => Ok(After::Close),
        how => content(state, socket, request, route, number, how).await,
    }
}

/// An answer without the content.
async fn plain(socket: &mut TcpStream, status: u16, headers: &[(&str, String)]) -> io::Result<After> {
    let body = format!("status {status}\n");
    let mut head = format!("HTTP/1.1 {status} {}\r\ncontent-type: text/plain\r\n", reason(status));
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let _ = write!(head, "content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    socket.write_all(head.as_bytes()).await?;
    Ok(After::Close)
}

/// Says nothing until the client gives up.
async fn silence(socket: &mut TcpStream) -> io::Result<After> {
    let mut rest = [0; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(After::Close)
}

async fn content(
    state: &State,
    socket: &mut TcpStream,
    request: &Request,
    route: &Route,
    number: usize,
    how: &Answer,
) -> io::Result<After> {
    let length = route.content.len();
    let tag = route.tag(number);
    let whole = (200, 0..length);
    let (status, range) = match request.asked_range(length) {
        Some(asked) if route.ranges && request.is_current(tag) => match asked {
            Some(range) => (206, range),
            None => return plain(socket, 416, &[("content-range", format!("bytes */{length}"))]).await,
        },
        _ => whole,
    };
    let mut head = format!("HTTP/1.1 {status} {}\r\ncontent-type: {}\r\n", reason(status), route.media_type);
    if let Some(tag) = tag {
        let _ = write!(head, "etag: {tag}\r\nlast-modified: {LAST_MODIFIED}\r\n");
    }
    if route.ranges {
        head.push_str("accept-ranges: bytes\r\n");
    }
    if status == 206 {
        let _ = write!(head, "content-range: bytes {}-{}/{length}\r\n", range.start, range.end - 1);
    }
    for (name, value) in &route.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let chunked = matches!(how, Answer::Chunked | Answer::Endless);
    if chunked {
        head.push_str("transfer-encoding: chunked\r\n");
    } else {
        let announced = if let Answer::Announce(announced) = how { *announced } else { range.end - range.start };
        let _ = write!(head, "content-length: {announced}\r\n");
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes()).await?;
    if request.method == "HEAD" {
        return Ok(After::KeepOpen);
    }
    let mut body = Body { state, socket, path: &request.path, chunked };
    match how {
        Answer::CutAfter(bytes) => body.send(route, range.start..range.end.min(range.start + bytes)).await?,
        Answer::StallAfter(bytes) => {
            body.send(route, range.start..range.end.min(range.start + bytes)).await?;
            return silence(socket).await;
        }
        Answer::Throttled(rate) => body.drip(route, range, *rate).await?,
        Answer::Endless => loop {
            body.send(route, range.clone()).await?;
        },
        _ => body.send(route, range).await?,
    }
    if chunked {
        socket.write_all(b"0\r\n\r\n").await?;
    }
    Ok(if matches!(how, Answer::Announce(_) | Answer::CutAfter(_)) { After::Close } else { After::KeepOpen })
}

impl Request {
    /// The range that is asked for, if there is one; `Some(None)` if it cannot be satisfied.
    fn asked_range(&self, length: u64) -> Option<Option<Range<u64>>> {
        let (from, to) = self.range()?.strip_prefix("bytes=")?.split_once('-')?;
        let range = match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) => from..length.min(to + 1),
            (Ok(from), Err(_)) => from..length,
            (Err(_), Ok(last)) => length.saturating_sub(last)..length,
            (Err(_), Err(_)) => return None,
        };
        Some((range.start < range.end).then_some(range))
    }

    /// Whether `If-Range`, if it is there, names what is served.
    fn is_current(&self, tag: Option<&str>) -> bool {
        self.header("if-range").is_none_or(|known| Some(known) == tag || known == LAST_MODIFIED && tag.is_some())
    }
}

/// A body on its way.
struct Body<'a> {
    state: &'a State,
    socket: &'a mut TcpStream,
    path: &'a str,
    chunked: bool,
}

impl Body<'_> {
    async fn send(&mut self, route: &Route, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let piece = route.content.piece(at..range.end.min(at + 64 * 1024));
            let room = self.room(at).await?;
            let piece = &piece[..piece.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
            self.write(piece).await?;
            at += piece.len() as u64;
        }
        // A hold at the very end stops the end of the answer.
        self.room(at).await.map(|_| ())
    }

    async fn drip(&mut self, route: &Route, range: Range<u64>, rate: u64) -> io::Result<()> {
        let step = (rate / 20).max(1);
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + step);
            self.send(route, at..end).await?;
            at = end;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.chunked {
            self.socket.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        self.socket.write_all(piece).await?;
        if self.chunked {
            self.socket.write_all(b"\r\n").await?;
        }
        *self.state.lock().sent.entry(self.path.to_owned()).or_default() += piece.len() as u64;
        Ok(())
    }

    /// How many bytes may go from here; waits at a hold, unless the client goes away.
    async fn room(&mut self, at: u64) -> io::Result<u64> {
        let mut changes = self.state.changes.subscribe();
        let hold = |state: &State| state.lock().holds.get(self.path).map(|hold| hold.at.saturating_sub(at));
        match hold(self.state) {
            Some(0) => {}
            room => return Ok(room.unwrap_or(u64::MAX)),
        }
        let _waits = Waits::at_hold(self.state, self.path);
        let mut silent = true;
        loop {
            let mut byte = [0];
            tokio::select! {
                _ = changes.changed() => if hold(self.state) != Some(0) {
                    return Ok(hold(self.state).unwrap_or(u64::MAX));
                },
                read = self.socket.peek(&mut byte), if silent => {
                    if read? == 0 {
                        return Err(io::ErrorKind::ConnectionAborted.into());
                    }
                    silent = false;
                }
            }
        }
    }
}

/// Counted among those that wait at a hold, for as long as it lives.
struct Waits<'a> {
    state: &'a State,
    path: &'a str,
}

impl<'a> Waits<'a> {
    fn at_hold(state: &'a State, path: &'a str) -> Self {
        if let Some(hold) = state.lock().holds.get_mut(path) {
            hold.waiting += 1;
        }
        state.changed();
        Self { state, path }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        if let Some(hold) = self.state.lock().holds.get_mut(self.path) {
            hold.waiting = hold.waiting.saturating_sub(1);
        }
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        410 => "Gone",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        451 => "Unavailable For Legal Reasons",
        503 => "Service Unavailable",
        _ => "Something",
    }
}
