//! The Lua scripts, one for each transition. Their headers are their contracts.

use std::sync::LazyLock;

use redis::{Arg, Cmd, ToRedisArgs};

const LIB: &str = concat!(include_str!("lua/lib.lua"), include_str!("lua/lanes.lua"), include_str!("lua/ends.lua"));

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| assemble(include_str!(concat!("lua/", $file))));)+
    };
}

scripts! {
    ACKNOWLEDGE = "acknowledge.lua",
    BEAT = "beat.lua",
    CANCEL = "cancel.lua",
    CHILD = "child.lua",
    CONSUME = "consume.lua",
    CONTROL = "control.lua",
    DRAIN = "drain.lua",
    EXPIRE = "expire.lua",
    FETCH = "fetch.lua",
    FOLLOW = "follow.lua",
    GATHER = "gather.lua",
    GET = "get.lua",
    LEAVE = "leave.lua",
    KIN = "kin.lua",
    LIMIT = "limit.lua",
    LIMITS = "limits.lua",
    LINES = "lines.lua",
    LOG = "log.lua",
    OBLITERATE = "obliterate.lua",
    OLDEST = "oldest.lua",
    PRIORITIZE = "prioritize.lua",
    PROGRESS = "progress.lua",
    PROMOTE = "promote.lua",
    PURGE = "purge.lua",
    PUSH = "push.lua",
    RATES = "rates.lua",
    RECLAIM = "reclaim.lua",
    RELAY = "relay.lua",
    RELEASE = "release.lua",
    RENEW = "renew.lua",
    RESOLVE = "resolve.lua",
    RETRY = "retry.lua",
    ROUSE = "rouse.lua",
    SCALE = "scale.lua",
    SETTLE = "settle.lua",
    STANDING = "standing.lua",
    SWEEP = "sweep.lua",
    TOLD = "told.lua",
    TRIM = "trim.lua",
    UNPARK = "unpark.lua",
    WALK = "walk.lua",
    WEIGH = "weigh.lua",
    WHY = "why.lua",
    WORKERS = "workers.lua",
}

/// The shebang line must stay first; the shared words go between it and the rest.
fn assemble(source: &str) -> Script {
    let (shebang, body) = source.split_once('\n').unwrap_or((source, ""));
    let source = format!("{shebang}\n{LIB}{body}");
    let hash = redis::Script::new(&source).get_hash().to_owned();
    Script { source, hash }
}

/// A script and the hash by which Redis knows it.
pub(crate) struct Script {
    source: String,
    hash: String,
}

impl Script {
    /// A call of it with its one key, from which it makes all others: so they lie in one slot of a cluster.
    pub(crate) fn key(&self, key: impl ToRedisArgs) -> Invocation<'_> {
        let mut by_hash = redis::cmd("EVALSHA");
        by_hash.arg(&self.hash).arg(1).arg(key);
        Invocation { script: self, by_hash }
    }
}

/// A call of a script.
pub(crate) struct Invocation<'a> {
    script: &'a Script,
    by_hash: Cmd,
}

impl Invocation<'_> {
    pub(crate) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        self.by_hash.arg(arg);
        self
    }

    /// The call as it is sent.
    pub(crate) fn by_hash(&self) -> &Cmd {
        &self.by_hash
    }

    /// The call for a server that does not know the script. It goes where the key lies, as the other does, so that of a
    /// cluster only that node must be there.
    pub(crate) fn by_source(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(&self.script.source);
        for arg in self.by_hash.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                command.arg(arg);
            }
        }
        command
    }
}
