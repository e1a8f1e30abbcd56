//! What every database behind the store must do: one suite, run against each.

#![expect(clippy::unwrap_used, reason = "a test helper that can't help fails the test")]

mod backup;
mod cluster;
mod db;
mod events;
mod faults;
mod file;
mod make;

/// The tests, for each database.
macro_rules! contract {
    ($($room:ident: $($name:ident)+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test]
                async fn $name() {
                    super::$room::$name(super::db::Db::sqlite()).await;
                }
            )+)+
        }

        /// One server for all of them, and a database for each: starting one takes longer than most of them.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres() {
            let server = hale_testkit::Postgres::start();
            let mut failed = Vec::new();
            $($(
                let db = db::Db::postgres(&server);
                if let Err(error) = tokio::spawn($room::$name(db)).await {
                    failed.push(format!("{}: {error}", stringify!($name)));
                }
            )+)+
            assert!(failed.is_empty(), "{}", failed.join("\n"));
        }
    };
}

contract! {
    events:
        events_are_numbered_in_the_order_taken_and_numbers_go_on_after_a_restart
        numbers_are_not_given_again_when_all_events_were_forgotten
        the_filters_find_the_same_in_memory_and_on_disk
        a_reader_who_goes_page_by_page_sees_each_event_once
        what_events_add_up_to_is_there_at_the_next_start_and_gone_with_the_replica
        the_last_hundred_outcomes_are_whole_and_all_are_counted_in_runs_over_restarts
        series_are_added_to_day_by_day_over_restarts_and_gone_with_the_target
        who_asked_for_what_is_on_record
        after_it_was_closed_nothing_is_taken_and_nobody_hangs
        a_text_with_a_nul_harms_nobody;
    cluster:
        what_is_written_is_read_and_told_in_order
        a_guard_that_fails_costs_only_its_own_write
        what_changes_nothing_is_not_written
        pages_of_changes_are_cut_between_writes
        a_deletion_is_told_and_then_forgotten
        a_lease_is_one_holders_until_its_end_and_its_number_fences
        a_lease_given_back_is_free_at_once
        many_writers_are_grouped_and_each_gets_its_answer
        events_and_records_of_one_write_come_together_or_not_at_all
        a_raised_epoch_leaves_out_numbers_and_resets_whoever_follows
        a_follower_sees_every_revision_once_and_in_order
        a_large_text_stands_beside_its_record_and_goes_with_it;
}
