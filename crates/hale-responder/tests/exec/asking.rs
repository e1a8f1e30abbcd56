//! Programs that are asked something (R10).

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::support::{AMPLE, Place, is_alive, program, script, soon};

#[tokio::test]
async fn an_answer_is_an_exit_status_and_no_answer_is_told() {
    let place = Place::new();
    let job = script("r1", "echo $HALE_NAME > output/done");
    place.run(&job).await;
    let ask = async |lines: &str, timeout: Duration| {
        let program = program(&["sh", "-c", &lines.replace('$', "$$")]);
        soon(place.executor.ask(&job, &program, timeout, CancellationToken::new())).await
    };
    assert_eq!(ask("echo asked; test \"$(cat output/done)\" = web-0", AMPLE).await, Ok(true));
    assert_eq!(ask("exit 1", AMPLE).await, Ok(false));
    assert!(ask("kill -9 $$", AMPLE).await.unwrap_err().contains("signal 9"));
    let slow = ask("echo $$ > output/pid; trap '' TERM; sleep 600", Duration::from_millis(500)).await;
    assert!(slow.unwrap_err().contains("did not end within 500ms"));
    assert!(!is_alive(place.pid(&job, "pid").await));
    let missing = program(&["/nowhere/ask"]);
    let answer = place.executor.ask(&job, &missing, AMPLE, CancellationToken::new()).await;
    assert!(answer.unwrap_err().contains("there is no program"));
    let stop = CancellationToken::new();
    stop.cancel();
    let answer = soon(place.executor.ask(&job, &program(&["true"]), AMPLE, stop)).await;
    assert!(answer.unwrap_err().contains("ending"));
    assert_eq!(place.out(&job), "", "its output is not that of the run");
}
