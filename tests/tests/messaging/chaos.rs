//! Messages while workers are killed and providers misbehave; `scripts/chaos messages` does the same with more of all.

use fourmi_tests::chaos::messages::{MessageOptions, run};

#[tokio::test(flavor = "multi_thread")]
async fn every_message_ends_in_one_state_and_no_text_comes_twice() {
    // Always the same plan, so that a failure can be looked into; `scripts/chaos` draws others.
    let options = MessageOptions { sms: 1_000, pushes: 2_000, seconds: 18, seed: 10, workers: 3, keep: None };
    assert!(run(options).await, "what is printed says which promise was broken");
}
