//! What the platform's processes say, each line with the name of its process.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread::JoinHandle,
};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::print;

/// A longer line is cut into several.
const LINE_BYTES: u64 = 16 * 1024;
/// Lines that wait for a slow terminal. Further ones are dropped and counted: a log that nobody reads must neither stop
/// the platform nor fill its memory.
const WAITING_LINES: usize = 4096;
const NAME_WIDTH: usize = 8;
const COLOURS: [u8; 5] = [36, 35, 34, 33, 32];

/// Standard error, shared by all processes; cheap to clone.
#[derive(Clone)]
pub(crate) struct Output {
    lines: SyncSender<String>,
    dropped: Arc<AtomicU64>,
    colours: bool,
    quiet: bool,
}

/// The thread that writes.
pub(crate) struct Writer(JoinHandle<()>);

impl Output {
    /// Starts the thread that writes, so that nothing else waits for the terminal.
    pub(crate) fn start(quiet: bool) -> (Self, Writer) {
        let (lines, waiting) = mpsc::sync_channel::<String>(WAITING_LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let lost = Arc::clone(&dropped);
        let thread = std::thread::spawn(move || {
            for line in waiting {
                print::to_stderr(&line);
                let lost = lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    print::to_stderr(&format!("{:<NAME_WIDTH$} | {lost} lines were dropped here", "fourmi"));
                }
            }
            let _nobody_reads = io::stderr().flush();
        });
        (Self { lines, dropped, colours: print::colours(&io::stderr()), quiet }, Writer(thread))
    }

    /// A line of the process of that name.
    pub(crate) fn line(&self, name: &str, text: &str) {
        if self.quiet {
            return;
        }
        let text: String = text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        let line = if self.colours {
            let colour = COLOURS[name.bytes().map(usize::from).sum::<usize>() % COLOURS.len()];
            format!("\x1b[{colour}m{name:<NAME_WIDTH$} |\x1b[0m {text}")
        } else {
            format!("{name:<NAME_WIDTH$} | {text}")
        };
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A line of the supervisor.
    pub(crate) fn note(&self, text: &str) {
        self.line("fourmi", text);
    }

    /// Passes on what a process writes, until it and all of its children have closed the pipe.
    pub(crate) async fn pass_on(self, name: String, pipe: impl AsyncRead + Unpin) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while let Ok(true) = next_line(&mut pipe, &mut line).await {
            self.line(&name, &String::from_utf8_lossy(&line));
        }
    }
}

/// Reads a line without its end; `false` after the last.
async fn next_line(pipe: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let bytes = pipe.take(LINE_BYTES).read_until(b'\n', line).await?;
    while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(bytes > 0)
}

impl Writer {
    /// Waits until everything is written, but not for a terminal that takes nothing.
    pub(crate) async fn finish(self) {
        for _ in 0..100 {
            if self.0.is_finished() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_where_they_end_or_are_too_long() {
        let long = "x".repeat(LINE_BYTES as usize + 3);
        let text = format!("one\r\n\n{long}\nlast");
        let mut pipe = BufReader::new(text.as_bytes());
        let (mut line, mut lengths) = (Vec::new(), Vec::new());
        while next_line(&mut pipe, &mut line).await.unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [3, 0, LINE_BYTES as usize, 3, 4]);
    }
}
