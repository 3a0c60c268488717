//! The Lua scripts, one for each transition. Their headers are their contracts.

use std::sync::LazyLock;

use redis::Script;

const LIB: &str = include_str!("lua/lib.lua");

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| assemble(include_str!(concat!("lua/", $file))));)+
    };
}

scripts! {
    CANCEL = "cancel.lua",
    EXPIRE = "expire.lua",
    FETCH = "fetch.lua",
    GET = "get.lua",
    PROGRESS = "progress.lua",
    PROMOTE = "promote.lua",
    PUSH = "push.lua",
    RECLAIM = "reclaim.lua",
    RELEASE = "release.lua",
    RENEW = "renew.lua",
    RETRY = "retry.lua",
    SETTLE = "settle.lua",
    TRIM = "trim.lua",
    UNPARK = "unpark.lua",
}

/// The shebang line must stay first; the shared words go between it and the rest.
fn assemble(source: &str) -> Script {
    let (shebang, body) = source.split_once('\n').unwrap_or((source, ""));
    Script::new(&format!("{shebang}\n{LIB}{body}"))
}
