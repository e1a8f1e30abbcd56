//! Following what other servers commit: their word is a hint, asking once a second is the safety net (S3).

use std::{sync::Arc, time::Duration};

use hale_api::events::EventQuery;
use sqlx::postgres::PgListener;
use tokio::time::{Instant, sleep, timeout};

use super::{CHANNEL, Primary, bounded};
use crate::{reader::Reader, writer::Shared};

/// How often it is asked without a hint.
const POLL: Duration = Duration::from_secs(1);

/// How often it is looked whether another host has become the primary while this one still answers.
const LOOK: Duration = Duration::from_secs(5);

/// The most events read at once; of more than that the older ones are left to be read from the database.
const MOST: usize = 2000;

/// Follows until it is aborted. `writer` is this server's own, whose commits are known already.
pub(crate) async fn follow(primary: Primary, reader: Reader, shared: Arc<Shared>, writer: String) {
    let mut look_at = Instant::now() + LOOK;
    loop {
        let change = primary.change();
        match listen(&primary).await {
            Ok(mut listener) => {
                while primary.change() == change {
                    if !hinted(&mut listener, &writer).await {
                        break;
                    }
                    catch_up(&reader, &shared).await;
                    if primary.is_one_of_several() && Instant::now() >= look_at {
                        look_at = Instant::now() + LOOK;
                        // What fails here fails at the next question, too, and is told there.
                        let _looked = primary.find().await;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "no word of other servers for now");
                sleep(POLL).await;
            }
        }
        catch_up(&reader, &shared).await;
    }
}

async fn listen(primary: &Primary) -> Result<PgListener, sqlx::Error> {
    let pool = primary.pool().await?;
    bounded(async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    })
    .await
}

/// Waits for a word of another server, or for the time to ask without; false when the connection is lost.
async fn hinted(listener: &mut PgListener, writer: &str) -> bool {
    let word = timeout(POLL, async {
        loop {
            match listener.try_recv().await {
                Ok(Some(word)) if word.payload() == writer => {}
                other => break other,
            }
        }
    });
    let alive = match word.await {
        Err(_) | Ok(Ok(Some(_))) => true,
        Ok(Ok(None) | Err(_)) => false,
    };
    // What gathered meanwhile is told by the same answer.
    while listener.next_buffered().is_some() {}
    alive
}

/// Reads what is new and tells the readers.
async fn catch_up(reader: &Reader, shared: &Shared) {
    let caught_up = async {
        let numbers = reader.numbers().await?;
        let known = shared.tail.last();
        let events = if numbers.last_event > known {
            read_events(reader, known, numbers.last_event).await?
        } else {
            Vec::new()
        };
        shared.publish(events, numbers.last_event, numbers.revision);
        Ok::<_, sqlx::Error>(())
    };
    if let Err(error) = caught_up.await {
        tracing::warn!(%error, "what other servers wrote can't be read; tried again");
    }
}

/// The events after one, up to another that is known to be there: all of them, or the newest.
pub(crate) async fn read_events(
    reader: &Reader,
    after: u64,
    upto: u64,
) -> Result<Vec<crate::rows::EventRow>, sqlx::Error> {
    let query = EventQuery { after: Some(after), newest: true, ..EventQuery::default() };
    let mut events = reader.events(&query, MOST).await?;
    events.retain(|it| it.event.id <= upto);
    Ok(events)
}
