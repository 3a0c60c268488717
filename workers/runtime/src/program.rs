//! Programs of others that work for a run, and die with it.

#![expect(unsafe_code, reason = "limits and the death signal are set between fork and exec")]

use std::{
    ffi::OsStr,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{Signal, kill, killpg},
    },
    unistd::{Pid, getppid},
};
use tokio::{
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// How long a program that was interrupted may take to end.
const INTERRUPT_GRACE: Duration = Duration::from_secs(3);

/// A program to be started for a run.
///
/// It gets no environment but what it is given, nothing on standard input, no new privileges, no core dump, and no shell.
/// It dies when its run ends, whatever way: with the worker's process, too.
pub struct Program {
    command: Command,
    own_group: bool,
    largest_file: Option<u64>,
}

/// A program that runs; dropped, it is killed.
pub struct RunningProgram {
    child: Child,
    own_group: bool,
}

impl Program {
    /// `own_group` where the run shares its process with others; an isolated run is a group of its own already, which is
    /// killed as a whole when it ends.
    pub(crate) fn new(program: &Path, folder: &Path, own_group: bool) -> Self {
        let mut command = Command::new(program);
        command.current_dir(folder).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command, own_group, largest_file: None }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// No file that it writes can be larger than this.
    #[must_use]
    pub fn largest_file(mut self, bytes: u64) -> Self {
        self.largest_file = Some(bytes);
        self
    }

    /// Starts it, with pipes on its standard output and error.
    ///
    /// # Errors
    /// What the system says: `NotFound`, if there is no such program.
    pub fn start(mut self) -> io::Result<RunningProgram> {
        let (parent, largest_file) = (nix::unistd::getpid(), self.largest_file);
        self.command.kill_on_drop(true);
        if self.own_group {
            self.command.process_group(0);
        }
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl, setrlimit, getppid.
        unsafe {
            self.command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                if getppid() != parent {
                    return Err(io::Error::from_raw_os_error(nix::libc::ESRCH));
                }
                nix::sys::prctl::set_no_new_privs()?;
                setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
                if let Some(bytes) = largest_file {
                    setrlimit(Resource::RLIMIT_FSIZE, bytes, bytes)?;
                }
                Ok(())
            });
        }
        let child = self.command.spawn()?;
        Ok(RunningProgram { child, own_group: self.own_group })
    }
}

impl RunningProgram {
    /// Its standard output, once.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, once.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// What the system says.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Interrupts it as Ctrl-C would; kills it if it does not end within three seconds.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGINT);
        if timeout(INTERRUPT_GRACE, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            // Killed, it ends; if it cannot be waited for it has ended already.
            let _ = self.child.wait().await;
        }
    }

    fn signal(&self, signal: Signal) {
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
        // One that has ended already is what was wanted.
        let _ = if self.own_group { killpg(pid, signal) } else { kill(pid, signal) };
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        if self.own_group {
            self.signal(Signal::SIGKILL);
        }
    }
}
