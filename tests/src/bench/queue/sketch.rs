//! The least that a queue with state per job can cost: plain scripts and a bare loop. No priorities, no delays, no
//! cancels, no retries; a hash per job, leases, events and counts. What the real queue takes more than this is the price
//! of its features.

use std::time::Instant;

use redis::{Connection, Script, pipe};
use uuid::Uuid;

use super::Tick;
use crate::RedisServer;

const BATCH: u64 = 200;

const PUSH: &str = r"#!lua
local now = redis.call('TIME')[1]
for n = 1, #ARGV, 2 do
  redis.call('SET', '{s}:b:' .. ARGV[n], ARGV[n + 1])
  redis.call('HSET', '{s}:j:' .. ARGV[n], 'state', 'waiting', 'at', now)
  redis.call('RPUSH', KEYS[1], ARGV[n])
end";

const FETCH: &str = r"#!lua
local now = redis.call('TIME')[1]
local answer, events = {}, {}
for _, id in ipairs(redis.call('LPOP', KEYS[1], ARGV[1]) or {}) do
  local key = '{s}:j:' .. id
  local run = redis.call('HINCRBY', key, 'run', 1)
  redis.call('HSET', key, 'state', 'running', 'start', now)
  redis.call('ZADD', '{s}:lease', now + 15, id)
  answer[#answer + 1] = { id, run, redis.call('GET', '{s}:b:' .. id) }
  events[#events + 1] = id .. ' running'
end
redis.call('HINCRBY', '{s}:m', 'running', #answer)
redis.call('PUBLISH', '{s}:ev', table.concat(events, '\n'))
return answer";

const SETTLE: &str = r"#!lua
local now = redis.call('TIME')[1]
local events = {}
for n = 1, #ARGV, 2 do
  local id, key = ARGV[n], '{s}:j:' .. ARGV[n]
  local job = redis.call('HMGET', key, 'state', 'run')
  if job[1] == 'running' and job[2] == ARGV[n + 1] then
    redis.call('HSET', key, 'state', 'succeeded', 'end', now)
    redis.call('ZREM', '{s}:lease', id)
    redis.call('ZADD', '{s}:done', now, id)
    events[#events + 1] = id .. ' succeeded'
  end
end
redis.call('HINCRBY', KEYS[1], 'running', 0 - #events)
redis.call('PUBLISH', '{s}:ev', table.concat(events, '\n'))";

/// Jobs a second that the bare loop takes through its queue.
pub(super) fn drain(redis: &RedisServer, jobs: u64) -> f64 {
    let mut connection = redis.connection();
    let load = |source: &str, connection: &mut Connection| {
        let script = Script::new(source);
        script.prepare_invoke().load(connection).unwrap();
        script.get_hash().to_owned()
    };
    let push = load(PUSH, &mut connection);
    let (fetch, settle) = (load(FETCH, &mut connection), load(SETTLE, &mut connection));
    for start in (0..jobs).step_by(BATCH.try_into().unwrap()) {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&push).arg(1).arg("{s}:w");
        for id in start..start + BATCH {
            let payload = serde_json::to_string(&Tick::now(id)).unwrap();
            call.arg(Uuid::now_v7().to_string()).arg(payload);
        }
        let () = call.query(&mut connection).unwrap();
    }

    let started = Instant::now();
    let (mut done, mut running): (u64, Vec<(String, u64, String)>) = (0, Vec::new());
    while done < jobs {
        // What one batch settles goes out with the fetch of the next.
        let mut calls = pipe();
        calls.cmd("EVALSHA").arg(&settle).arg(1).arg("{s}:m");
        for (id, run, _) in &running {
            calls.arg(id).arg(*run);
        }
        calls.ignore().cmd("EVALSHA").arg(&fetch).arg(1).arg("{s}:w").arg(BATCH);
        done += running.len() as u64;
        (running,) = calls.query(&mut connection).unwrap();
    }
    jobs as f64 / started.elapsed().as_secs_f64()
}
