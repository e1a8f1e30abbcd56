//! What replicas print.

use std::time::Duration;

use hale_api::{LogStream, logs::LogQuery};
use tokio::time::timeout;

use super::hale::Hale;

async fn next(stream: &mut LogStream) -> Option<(String, String)> {
    let line = timeout(Duration::from_secs(20), stream.next()).await.expect("a line in time").unwrap();
    line.map(|it| (it.replica, it.text))
}

fn line(replica: &str, text: &str) -> Option<(String, String)> {
    Some((replica.to_owned(), text.to_owned()))
}

#[tokio::test]
async fn a_workload_shows_the_tail_of_each_replica_and_ends() {
    let hale = Hale::start().await;
    for n in 1..=3 {
        hale.node.print("web-0", &n.to_string());
        hale.node.print("web-1", &format!("one {n}"));
    }
    let query = LogQuery { tail: Some(2), follow: false };
    let mut stream = hale.client().logs("web", &query).await.unwrap();
    for expected in
        [line("web-0", "2"), line("web-0", "3"), line("web-1", "one 2"), line("web-1", "one 3"), None]
    {
        assert_eq!(next(&mut stream).await, expected);
    }
    hale.stop().await;
}

#[tokio::test]
async fn following_goes_on_with_what_comes_and_ends_with_hale() {
    let hale = Hale::start().await;
    hale.node.print("web-0", "before");
    let query = LogQuery { tail: None, follow: true };
    let mut stream = hale.client().logs("web-0", &query).await.unwrap();
    assert_eq!(next(&mut stream).await, line("web-0", "before"));
    hale.node.print("web-0", "after");
    assert_eq!(next(&mut stream).await, line("web-0", "after"));
    let ((), end) = tokio::join!(
        async {
            hale.stop().await;
        },
        next(&mut stream)
    );
    assert_eq!(end, None);
}
