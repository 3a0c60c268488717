//! Several processes that use the records at once, and some that are killed.

use fourmi_records::Records;
use fourmi_tests::{BATCH, Program, RecordWriter, SHARED_KEY, eventually, shared_key};

use crate::place::{Place, in_every_database};

in_every_database!(processes_use_the_records_at_once, who_is_killed_loses_nothing_that_was_acknowledged);

fn start(place: &Place, writer: u16, first: u16, last: u16) -> Program {
    let arguments = [place.location(), writer.to_string(), first.to_string(), last.to_string()];
    Program::start("fourmi-test-records", &arguments.each_ref().map(String::as_str), [])
}

async fn with_shared_key(place: &Place) -> Records {
    let records = place.open().await;
    assert!(records.add_key(&shared_key()).await.unwrap());
    records
}

/// How many jobs of a round are there.
async fn jobs_of(records: &Records, place: &Place, writer: u16, round: u16) -> u16 {
    let writer = RecordWriter { location: place.location(), number: writer };
    let mut found = 0;
    for number in 0..BATCH {
        found += u16::from(records.job(&writer.job(round, number).unwrap()).await.unwrap().is_some());
    }
    found
}

async fn processes_use_the_records_at_once(place: Place) {
    const WRITERS: u16 = 6;
    const ROUNDS: u16 = 60;
    let records = with_shared_key(&place).await;
    let mut writers: Vec<_> = (0..WRITERS).map(|writer| start(&place, writer, 0, ROUNDS)).collect();
    for writer in &mut writers {
        let end = writer.wait();
        assert!(end.success(), "{:?}", writer.lines());
    }
    let rounds = u64::from(WRITERS) * u64::from(ROUNDS);
    assert_eq!(records.count().await.unwrap(), rounds * u64::from(BATCH));
    assert_eq!(records.key(SHARED_KEY).await.unwrap().unwrap().name, rounds.to_string(), "no change is lost");
    let keys = records.keys().await.unwrap();
    assert_eq!(keys.iter().filter(|key| key.last_used_at.is_some()).count(), usize::from(WRITERS));
}

async fn who_is_killed_loses_nothing_that_was_acknowledged(place: Place) {
    const WRITERS: u16 = 3;
    const KILLS: u16 = 12;
    /// More than any of them goes through.
    const ROUNDS: u16 = 5_000;
    let records = with_shared_key(&place).await;
    let mut writers: Vec<_> = (0..WRITERS).map(|writer| start(&place, writer, 0, ROUNDS)).collect();
    let mut first = [0; WRITERS as usize];
    for kill in 0..KILLS {
        let number = usize::from(kill % WRITERS);
        // Each time after another number of rounds, in the midst of whatever it does then.
        let acknowledged = |writer: &Program| writer.lines().iter().filter(|line| line.starts_with("ack")).count();
        let enough = 2 + usize::from(kill);
        eventually("some batches are acknowledged", || acknowledged(&writers[number]) >= enough);
        writers[number].kill();
        let lines = writers[number].lines();
        let rounds = lines.iter().map(|line| line.strip_prefix("acknowledged ").unwrap().parse::<u16>().unwrap());
        let last = rounds.max().unwrap();
        let writer = kill % WRITERS;
        for round in first[number]..=last {
            assert_eq!(jobs_of(&records, &place, writer, round).await, BATCH, "round {round} was acknowledged");
        }
        let begun = jobs_of(&records, &place, writer, last + 1).await;
        assert!(begun == 0 || begun == BATCH, "{begun} of a batch are there");
        first[number] = last + 2;
        writers[number] = start(&place, writer, last + 2, ROUNDS);
    }
}
