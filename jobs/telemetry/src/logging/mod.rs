//! Logs: one form for every program, on standard error and, if there is a folder for them, in files too.

mod files;

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, OnceLock, PoisonError},
};

use anyhow::Context;
use fourmi_settings::{LogFormat, Logging};
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use self::files::Files;

/// Stands before a line that a child process has written for the log of its parent: the record separator of ASCII, with
/// which no text for people begins.
const FOR_THE_PARENT: char = '\u{1e}';

/// The files of this process.
static FILES: OnceLock<Mutex<Files>> = OnceLock::new();

/// Sends the log of this process to standard error, in colour only if a person reads it and `NO_COLOR` is not set, and to
/// files if the settings name a folder for them.
///
/// A process that has a log already keeps it: in tests several programs' parts share one process.
///
/// # Errors
/// If a file cannot be opened.
pub fn init(logging: &Logging) -> anyhow::Result<()> {
    if let Some(settings) = &logging.files {
        let folder = settings.folder.display();
        let files =
            Files::open(settings).with_context(|| format!("FOURMI_LOG_FOLDER: no log can be written in {folder}"))?;
        let _already_set = FILES.set(Mutex::new(files));
    }
    let for_a_person = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    start(logging, for_a_person && logging.files.is_none(), || Output);
    Ok(())
}

/// Sends the log of this process, which is a child, to the one that has started it and reads its standard error.
pub fn init_child(logging: &Logging) {
    start(logging, false, || ToParent);
}

/// Takes a line of the standard error of a child process into the log of this one, if it was written for that.
pub fn take_over(line: &str) -> bool {
    let Some(line) = line.strip_prefix(FOR_THE_PARENT) else { return false };
    // There is nobody else to tell.
    let _ = Output.write_all(format!("{line}\n").as_bytes());
    true
}

fn start<W>(logging: &Logging, colours: bool, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let registry = tracing_subscriber::registry().with(EnvFilter::new(&logging.filter));
    let _already_set = match logging.format {
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
            registry.with(lines).try_init()
        }
        LogFormat::Text => registry.with(fmt::layer().with_ansi(colours).with_writer(writer)).try_init(),
    };
}

/// Standard error and the files. What is written comes in whole lines.
struct Output;

impl Write for Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if let Some(files) = FILES.get() {
            // A full disk must not silence standard error too.
            let _ = files.lock().unwrap_or_else(PoisonError::into_inner).append(lines);
        }
        io::stderr().write_all(lines).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Standard error, which the parent reads.
struct ToParent;

impl Write for ToParent {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        // At once, so that what others write there does not come in between.
        let marked = [FOR_THE_PARENT.to_string().as_bytes(), lines].concat();
        io::stderr().write_all(&marked).map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
