//! Tests of the operations, below the async traits, without a runtime.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use futures_util::FutureExt;
use steadfast_core::{
    Absence, Applied, Authentication, Budget, CLAIMED_FOR, Change, Deleted, Deletion, EndReason,
    Ending, Env, Keyring, Limits, LoginPolicy, Lookup, ManualClock, Outcome, Patch, Principal,
    Proof, RawJson, Realm, Record, RecordId, Rejection, Revocation, Rotation, SecretHash,
    Timestamp, Token, Version,
};

use crate::endings::{EndingQueue, KEPT};
use crate::lru_cache::ShardedLru;
use crate::sessions::Sessions;

mod reports {
    use super::*;

    #[test]
    fn the_oldest_endings_beyond_the_bound_are_dropped() {
        let queue = EndingQueue::default();
        queue.listen();
        let keep = |count: usize| (0..count).for_each(|_| queue.keep(ending));
        keep(KEPT);
        let start = Timestamp::UNIX_EPOCH;
        assert_eq!(queue.claim(10, start).len(), 10);
        keep(10);
        // The ten that were claimed wait again, beside as many as there is room for.
        assert_eq!(queue.claim(0, start + CLAIMED_FOR).len(), 0);
        keep(1);
        assert_eq!(queue.claim(usize::MAX, start + CLAIMED_FOR).len(), KEPT);
    }

    fn ending() -> Ending {
        let id = RecordId::random(&Env::system()).unwrap();
        let at = Timestamp::UNIX_EPOCH;
        Ending { id, principal: None, reason: EndReason::Expired, at }
    }
}

mod budgets {
    use super::*;

    #[test]
    fn a_flood_of_visitors_evicts_no_user() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        let users: Vec<_> = (0..500).map(|n| store.user(&format!("user-{n}"))).collect();
        store.flood(50_000);
        assert!(users.iter().all(|user| store.has(user.id())));
    }

    #[test]
    fn a_fresh_login_stays_under_a_flood() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        store.flood(5_000);
        let token = store.visitor();
        store.login(&token, &principal("alice"));
        store.flood(5_000);
        assert!(store.has(token.id()));
        assert_eq!(store.listed("alice"), 1);
    }

    #[test]
    fn a_fresh_visitor_stays_while_older_ones_go() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        for _ in 0..5_000 {
            assert!(store.has(store.visitor().id()));
        }
    }

    #[test]
    fn the_excess_during_a_flood_is_small() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        let most = most_held_while(&store, 1, 10_000);
        assert!(most <= 1_000 + 128, "{most}");
        assert_eq!(store.stats().records, 1_000);
    }

    #[test]
    fn the_excess_is_small_when_threads_flood() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        let most = most_held_while(&store, 8, 5_000);
        assert!(most <= 1_000 + 1_500, "{most}");
        assert_eq!(store.stats().records, 1_000);
    }

    fn most_held_while(store: &Store, threads: usize, visitors: usize) -> usize {
        let flood = || (0..visitors).map(|_| (store.visitor(), store.sessions.queued()).1).max();
        thread::scope(|scope| {
            let floods: Vec<_> = (0..threads).map(|_| scope.spawn(flood)).collect();
            floods.into_iter().filter_map(|flood| flood.join().unwrap()).max().unwrap()
        })
    }

    #[test]
    fn large_records_are_bounded_by_their_bytes() {
        let store = Store::with(SMALL, Budget::AUTHENTICATED);
        for _ in 0..1_000 {
            store.put(store.visitor().id(), "blob", 10_000);
        }
        let stats = store.stats();
        assert!(stats.bytes <= SMALL.bytes && stats.records <= 256, "{stats:?}");
        assert!(stats.records >= 250, "{stats:?}");
    }

    #[test]
    fn the_weight_of_a_record_follows_its_size() {
        let store = Store::new();
        let token = store.visitor();
        let bytes = store.stats().bytes;
        store.put(token.id(), "blob", 10_000);
        assert_eq!(store.stats().bytes, 16_384);
        store.put(token.id(), "blob", 1);
        assert_eq!(store.stats().bytes, bytes);
        assert_eq!(store.stats().records, 1);
    }

    #[test]
    fn evicted_sessions_leave_nothing_behind() {
        let store = Store::with(SMALL, SMALL);
        for n in 0..3_000 {
            store.user(&format!("user-{n}"));
        }
        let listed = (0..3_000).filter(|n| store.listed(&format!("user-{n}")) > 0);
        assert_eq!(store.stats().records, 1_000);
        assert_eq!(listed.count(), 1_000);
        assert_eq!(store.sessions.queued(), 1_000);
    }
}

mod races {
    use super::*;

    #[test]
    fn an_evicted_record_never_comes_back() {
        let store = Store::with(Budget { records: 64, ..SMALL }, Budget::AUTHENTICATED);
        let flooding = AtomicBool::new(true);
        thread::scope(|scope| {
            let flood = scope.spawn(|| store.flood(20_000));
            scope.spawn(|| store.use_until_gone(&flooding));
            scope.spawn(|| store.use_until_gone(&flooding));
            flood.join().unwrap();
            flooding.store(false, Ordering::Relaxed);
        });
        let records = store.stats().records;
        assert!(records <= 64, "{records}");
        assert_eq!(store.sessions.queued() as u64, records);
        assert_eq!(store.sessions.scan(None, 1_000).records.len() as u64, records);
    }

    #[test]
    fn every_login_that_was_applied_survives_the_flood() {
        let store = Store::with(Budget { records: 16, ..SMALL }, Budget::AUTHENTICATED);
        let mut applied = 0;
        thread::scope(|scope| {
            scope.spawn(|| store.flood(20_000));
            for n in 0..2_000 {
                let token = store.visitor();
                let outcome =
                    store.try_login(&token, &principal(&n.to_string()), LoginPolicy::default());
                let is_applied = matches!(outcome, Outcome::Applied(_));
                assert_eq!(store.has(token.id()), is_applied, "{outcome:?}");
                applied += u64::from(is_applied);
            }
        });
        assert!(applied > 0);
        assert_eq!(store.stats().authenticated, applied);
    }

    #[test]
    fn a_login_hides_its_record_from_nobody() {
        let store = Store::new();
        let tokens: Vec<_> = (0..5_000).map(|_| store.visitor()).collect();
        let turn = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for (n, token) in tokens.iter().enumerate() {
                    turn.store(n, Ordering::Relaxed);
                    store.login(token, &principal(&n.to_string()));
                }
                turn.store(tokens.len(), Ordering::Relaxed);
            });
            while let Some(token) = tokens.get(turn.load(Ordering::Relaxed)) {
                assert!(store.has(token.id()));
            }
        });
        assert_eq!(store.stats().authenticated, 5_000);
    }

    #[test]
    fn additions_of_many_threads_all_count() {
        let store = Store::new();
        let token = store.visitor();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..500).for_each(|_| drop(store.add(token.id()))));
            }
        });
        assert_eq!(store.add(token.id()).counters, [("n".into(), 4_001)]);
    }

    #[test]
    fn one_of_many_creates_of_an_id_wins() {
        let store = Store::new();
        for _ in 0..200 {
            let id = store.id();
            let create = || matches!(store.create(id, &store.token(id), None), Outcome::Applied(_));
            let won = thread::scope(|scope| {
                let other = scope.spawn(create);
                [create(), other.join().unwrap()]
            });
            assert!(won[0] != won[1]);
        }
        assert_eq!(store.stats().records, 200);
    }

    #[test]
    fn ending_all_sessions_never_misses_a_login() {
        let store = Store::new();
        let alice = principal("alice");
        thread::scope(|scope| {
            let ender =
                scope.spawn(|| (0..900).map(|_| store.delete_all(&alice, None, None)).sum::<u64>());
            for _ in 0..900 {
                store.user("alice");
            }
            let ended = ender.join().unwrap();
            assert_eq!(ended + store.listed("alice") as u64, 900);
            assert_eq!(store.stats().records, store.listed("alice") as u64);
        });
    }

    #[test]
    fn a_cap_holds_under_concurrent_logins() {
        let store = Store::new();
        let policy = LoginPolicy::capped(3);
        let log_in = || drop(store.try_login(&store.visitor(), &principal("alice"), policy));
        thread::scope(|scope| {
            let logins = [(); 3].map(|()| scope.spawn(|| (0..200).for_each(|_| log_in())));
            while !logins.iter().all(ScopedJoinHandle::is_finished) {
                assert!(store.listed("alice") <= 3);
            }
        });
        assert_eq!((store.listed("alice"), store.stats().records), (3, 3));
    }

    #[test]
    fn no_update_under_way_revives_what_was_deleted() {
        let store = Store::new();
        for _ in 0..500 {
            let id = store.visitor().id();
            thread::scope(|scope| {
                scope.spawn(|| {
                    while store.try_put(id, "blob", 2_000) && store.try_put(id, "blob", 1) {}
                });
                assert!(store.delete(id, None));
                assert!(!store.has(id));
            });
            assert!(!store.has(id));
        }
        assert_eq!((store.stats().records, store.sessions.queued()), (0, 0));
    }
}

mod expiry {
    use super::*;

    #[test]
    fn expiry_gives_everything_back_with_a_little_traffic() {
        let store = Store::new();
        for n in 0..1_000 {
            store.visitor();
            store.user(&format!("user-{n}"));
        }
        store.clock.advance(IDLE + Duration::from_secs(1));
        for _ in 0..100 {
            store.has(store.id());
        }
        assert_eq!(store.stats(), Default::default());
        assert!(store.sessions.is_spotless());
    }

    #[test]
    fn collecting_ends_exactly_the_due_records() {
        let store = Store::new();
        (0..3_000).for_each(|_| drop(store.visitor()));
        store.clock.advance(Duration::from_millis(1));
        let later = store.visitor();
        store.clock.advance(IDLE - Duration::from_millis(1));
        assert_eq!(store.sessions.collect(), 3_000);
        assert_eq!(store.sessions.collect(), 0);
        assert!(store.has(later.id()));
    }

    #[test]
    fn a_touched_record_outlives_its_queue_entry() {
        let store = Store::new();
        let token = store.visitor();
        store.clock.advance(IDLE / 2);
        store.touch(token.id());
        store.clock.advance(IDLE / 2);
        assert_eq!(store.sessions.collect(), 0);
        assert!(store.has(token.id()));
        store.clock.advance(IDLE / 2);
        assert_eq!(store.sessions.collect(), 1);
        assert!(store.sessions.is_spotless());
    }

    #[test]
    fn clock_jumps_end_records_only_forwards() {
        let store = Store::new();
        let start = store.now();
        let early = store.visitor();
        store.clock.set(Timestamp::UNIX_EPOCH);
        assert!(store.has(early.id()));
        assert_eq!(store.sessions.collect(), 0);
        let late = store.visitor();
        store.clock.set(Timestamp::MAX);
        assert!(!store.has(early.id()) && !store.has(late.id()));
        assert_eq!(store.sessions.collect(), 0);
        store.clock.set(start);
        assert!(!store.has(early.id()) && store.sessions.is_spotless());
    }

    #[test]
    fn only_a_right_proof_learns_of_an_expiry() {
        let store = Store::new();
        let (one, other) = (store.visitor(), store.visitor());
        store.clock.advance(IDLE);
        let proof = store.prove(&one);
        let asked = |token: &Token| absence(store.load(token.id(), Some(&proof)));
        assert_eq!(asked(&one), Absence::Expired);
        assert_eq!(asked(&one), Absence::Unknown);
        assert_eq!(asked(&other), Absence::Unknown);
    }

    #[test]
    fn an_old_expiry_is_reported_once() {
        let store = Store::new();
        let token = store.visitor();
        store.clock.advance(DAY);
        let asked = || absence(store.load(token.id(), None));
        assert_eq!((asked(), asked()), (Absence::Expired, Absence::Unknown));
    }

    #[test]
    fn an_expired_record_frees_its_id() {
        let store = Store::new();
        let token = store.visitor();
        store.clock.advance(IDLE);
        assert!(!store.try_put(token.id(), "a", 1));
        assert!(!store.delete(token.id(), None));
        let fresh = store.token(token.id());
        assert!(matches!(store.create(token.id(), &fresh, None), Outcome::Applied(_)));
        assert_eq!((store.stats().records, store.sessions.queued()), (1, 1));
    }
}

mod principals {
    use super::*;

    #[test]
    fn the_cap_ends_the_oldest_and_names_it() {
        let store = Store::new();
        let tokens: Vec<_> = (0..3).map(|_| store.visitor()).collect();
        let ended = |token| store.capped_login(token, 2);
        assert!(ended(&tokens[2]).is_empty());
        assert!(ended(&tokens[0]).is_empty());
        assert_eq!(ended(&tokens[1]), [tokens[2].id()]);
        assert!(!store.has(tokens[2].id()));
        assert_eq!(store.listed("alice"), 2);
    }

    #[test]
    fn a_cap_of_none_leaves_the_new_session() {
        let store = Store::new();
        let (old, new) = (store.user("alice"), store.visitor());
        assert_eq!(store.capped_login(&new, 0), [old.id()]);
        assert!(store.has(new.id()));
    }

    #[test]
    fn a_cap_counts_no_expired_session() {
        let store = Store::new();
        store.user("alice");
        store.clock.advance(IDLE);
        assert!(store.capped_login(&store.visitor(), 1).is_empty());
    }

    #[test]
    fn a_cap_holds_for_created_records_too() {
        let store = Store::new();
        let old = store.user("alice");
        let token = store.token(store.id());
        let policy = LoginPolicy::capped(1);
        let mut record = store.record(&token);
        record.principal = Some(principal("alice"));
        let outcome = store.sessions.create(token.id(), record, policy);
        assert_eq!(applied(outcome).ended, [old.id()]);
    }

    #[test]
    fn a_minimum_epoch_lasts_a_day() {
        let store = Store::new();
        let revoke = |epoch| store.delete_all(&principal("alice"), None, Some(epoch));
        let admits = |epoch| store.admits("alice", epoch);
        assert!(admits(None));
        assert_eq!((revoke(7), revoke(3)), (1, 0));
        assert!(!admits(None) && !admits(Some(6)) && admits(Some(7)));
        store.clock.advance(DAY - Duration::from_secs(1));
        assert!(!admits(Some(6)) && store.admits("bob", None));
        store.clock.advance(IDLE + DAY);
        store.sessions.collect();
        assert!(store.sessions.is_spotless());
    }

    #[test]
    fn a_refused_login_changes_nothing() {
        let store = Store::new();
        store.delete_all(&principal("alice"), None, Some(1));
        let token = store.visitor();
        let outcome = store.try_login(&token, &principal("alice"), LoginPolicy::default());
        assert!(matches!(outcome, Outcome::Rejected(Rejection::StaleEpoch)));
        assert!(matches!(
            store.load(token.id(), Some(&store.prove(&token))),
            Lookup::Found(found) if found.record.version == Version::FIRST
        ));
        assert_eq!(store.stats().authenticated, 0);
    }

    #[test]
    fn all_but_one_session_of_a_principal_end() {
        let store = Store::new();
        let tokens: Vec<_> = (0..3).map(|_| store.user("alice")).collect();
        let bob = store.user("bob");
        let kept = tokens[1].id();
        assert_eq!(store.delete_all(&principal("alice"), Some(kept), None), 2);
        assert!(store.has(kept) && store.has(bob.id()) && !store.has(tokens[0].id()));
    }

    #[test]
    fn a_login_moves_a_session_between_principals() {
        let store = Store::new();
        let token = store.user("alice");
        let again = store.login(&token, &principal("bob"));
        assert_eq!((store.listed("alice"), store.listed("bob")), (0, 1));
        assert_eq!(store.delete_all(&principal("alice"), None, None), 0);
        store.login(&again, &principal("alice"));
        assert_eq!((store.listed("alice"), store.listed("bob")), (1, 0));
    }

    #[test]
    fn a_session_that_changed_hands_leaves_nothing_behind() {
        let store = Store::new();
        let token = store.user("alice");
        store.login(&token, &principal("bob"));
        store.delete(token.id(), None);
        assert!(store.sessions.is_spotless());
    }

    #[test]
    fn a_list_shows_live_sessions_only() {
        let store = Store::new();
        let (one, two) = (store.user("alice"), store.user("alice"));
        store.clock.advance(IDLE / 2);
        store.touch(two.id());
        store.delete(one.id(), None);
        assert_eq!(store.listed("alice"), 1);
        store.clock.advance(IDLE);
        assert_eq!(store.listed("alice"), 0);
    }

    #[test]
    fn a_repeated_rotation_is_applied_once() {
        let store = Store::new();
        let (token, next) = (store.visitor(), store.token(store.id()));
        let patch =
            store.rotation(&token, &next, Some(&principal("alice")), LoginPolicy::default());
        let first = applied(store.update(token.id(), &patch));
        store.delete_all(&principal("alice"), Some(token.id()), Some(1));
        assert_eq!(applied(store.update(token.id(), &patch)), first);
    }
}

mod caps {
    use super::*;
    use crate::slot::LOOKS;

    const CAP: usize = 1_000;

    #[test]
    fn a_login_at_the_cap_reads_two_sessions() {
        let store = Store::new();
        let below: Vec<_> = (0..CAP).map(|_| looks_of_a_login(&store)).collect();
        let at_the_cap: Vec<_> = (0..CAP).map(|_| looks_of_a_login(&store)).collect();
        let most = below.into_iter().max().unwrap();
        // The first login over the cap also reads the deadlines of the first sessions.
        assert!(at_the_cap[0] <= most + 20, "{most} and then {}", at_the_cap[0]);
        assert!(at_the_cap[1..].iter().all(|looks| *looks <= most + 2), "{most}, {at_the_cap:?}");
        assert_eq!(store.listed("alice"), CAP);
    }

    #[test]
    fn logins_look_at_few_sessions_while_others_expire() {
        let store = Store::new();
        let end = store.now() + 2 * IDLE - Duration::from_secs(10);
        let used: Vec<_> = (0..100).map(|_| store.member()).collect();
        let mut most = 0;
        // 900 unused sessions expire one by one, while each login is close to the cap.
        while store.now() < end {
            used.iter().filter(|used| store.has(used.id())).for_each(|used| store.touch(used.id()));
            store.clock.advance(Duration::from_secs(2));
            most = most.max(looks_of_a_login(&store));
        }
        assert!((CAP - 5..=CAP).contains(&store.listed("alice")), "{}", store.listed("alice"));
        assert!(most < 200, "{most}");
    }

    #[test]
    fn an_elevation_makes_a_session_the_newest() {
        let store = Store::new();
        let (one, two, three) = (store.member(), store.visitor(), store.visitor());
        assert!(store.capped_login(&two, 2).is_empty());
        store.clock.advance(Duration::from_secs(1));
        let elevation = store.rotation(&one, &store.token(one.id()), None, LoginPolicy::default());
        applied(store.update(one.id(), &elevation));
        assert_eq!(store.capped_login(&three, 2), [two.id()]);
        assert_eq!(store.capped_login(&store.visitor(), 2), [one.id()]);
    }

    #[test]
    fn a_repeated_authentication_keeps_one_entry() {
        let store = Store::new();
        let mut token = store.member();
        for name in ["alice", "bob", "alice", "alice", "bob"] {
            token = store.login(&token, &principal(name));
            assert_eq!(store.listed(name), 1);
        }
        assert_eq!(store.listed("alice"), 0);
        store.delete(token.id(), None);
        assert!(store.sessions.is_spotless());
    }

    #[test]
    fn an_evicted_session_does_not_count_against_caps() {
        let store = Store::with(SMALL, Budget { records: 5, ..SMALL });
        for _ in 0..5 {
            store.clock.advance(Duration::from_secs(1));
            store.login(&store.visitor(), &principal("alice"));
        }
        assert!(store.capped_login(&store.visitor(), 5).is_empty(), "the budget ended one");
        assert_eq!((store.listed("alice"), store.stats().authenticated), (5, 5));
    }

    #[test]
    fn an_authentication_can_shorten_a_deadline() {
        let store = Store::new();
        let tokens: Vec<_> = (0..30).map(|_| store.member()).collect();
        let mut login = store.rotation(
            &tokens[0],
            &store.token(tokens[0].id()),
            Some(&principal("alice")),
            LoginPolicy::default(),
        );
        let mut rotation = login.rotation().unwrap().clone();
        let soon = store.now() + Duration::from_millis(1_500);
        rotation.authentication.as_mut().unwrap().absolute_deadline = soon;
        login.rotate(store.prove(&tokens[0]), rotation);
        applied(store.update(tokens[0].id(), &login));
        store.clock.set(soon);
        let policy = LoginPolicy::capped(30);
        let outcome = store.try_login(&store.visitor(), &principal("alice"), policy);
        assert!(applied(outcome).ended.is_empty(), "the one that expired made room");
    }

    fn looks_of_a_login(store: &Store) -> usize {
        let visitor = store.visitor();
        LOOKS.set(0);
        store.clock.advance(Duration::from_millis(1));
        store.login(&visitor, &principal("alice"));
        LOOKS.get()
    }
}

mod answers {
    use super::*;

    #[test]
    fn a_create_is_idempotent_and_never_overwrites() {
        let store = Store::new();
        let token = store.visitor();
        store.put(token.id(), "a", 1);
        let version = applied(store.create(token.id(), &token, None)).version;
        assert_eq!(version, Version(2));
        let other = store.token(token.id());
        assert!(matches!(store.create(token.id(), &other, None), Outcome::Exists));
    }

    #[test]
    fn a_wrong_proof_opens_and_ends_nothing() {
        let store = Store::new();
        let token = store.visitor();
        let wrong = store.prove(&store.token(token.id()));
        assert_eq!(absence(store.load(token.id(), Some(&wrong))), Absence::Unknown);
        assert!(!store.delete(token.id(), Some(&wrong)));
        assert!(store.delete(token.id(), Some(&store.prove(&token))));
    }

    #[test]
    fn the_replaced_secret_is_superseded_for_a_minute() {
        let store = Store::new();
        let token = store.user("alice");
        let again = store.login(&token, &principal("alice"));
        let load = |token: &Token| store.load(again.id(), Some(&store.prove(token)));
        assert!(matches!(load(&token), Lookup::Superseded));
        assert!(matches!(load(&again), Lookup::Found(_)));
        store.clock.advance(Record::REPLACED_KEPT);
        assert!(matches!(load(&token), Lookup::Absent(Absence::Unknown)));
    }

    #[test]
    fn a_record_over_the_limits_is_not_created() {
        let store = Store::new();
        let token = store.token(store.id());
        let mut record = store.record(&token);
        let keys: Vec<_> = (0..65).map(|n| n.to_string()).collect();
        record.values = keys.iter().map(|key| (key, b"1".as_slice())).collect();
        let outcome = store.sessions.create(token.id(), record, LoginPolicy::default());
        assert!(matches!(outcome, Outcome::Rejected(Rejection::Limit(_))));
    }

    #[test]
    fn a_draining_store_only_serves_existing_sessions() {
        let store = Store::new();
        let token = store.visitor();
        store.sessions.close();
        let fresh = store.token(store.id());
        let outcome = store.create(fresh.id(), &fresh, None);
        assert!(matches!(outcome, Outcome::Rejected(Rejection::Draining)));
        assert!(store.has(token.id()) && store.try_put(token.id(), "a", 1));
    }

    #[test]
    fn a_scan_pages_through_every_record_in_order() {
        let store = Store::new();
        let mut ids: Vec<_> = (0..25).map(|_| store.visitor().id()).collect();
        ids.extend((0..5).map(|_| store.user("alice").id()));
        ids.sort();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.sessions.scan(after, 10);
            seen.extend(page.records.iter().map(|scanned| scanned.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, ids);
    }

    #[test]
    fn changes_report_patches_and_ends_but_no_touches() {
        let store = Store::new();
        let mut changes = store.sessions.changes.listen();
        let id = store.visitor().id();
        store.touch(id);
        store.put(id, "a", 1);
        store.delete(id, None);
        let mut next = || changes.next().now_or_never();
        assert_eq!(next(), Some(Some(Change::Patched(id, Version(2)))));
        assert_eq!(next(), Some(Some(Change::Ended(id, EndReason::Logout))));
        assert_eq!(next(), None);
    }

    #[test]
    fn changes_report_evictions_and_end_with_the_store() {
        let store = Store::with(Budget { records: 1, ..SMALL }, Budget::AUTHENTICATED);
        let mut changes = store.sessions.changes.listen();
        let first = store.visitor();
        store.flood(1);
        store.stats();
        drop(store);
        let mut next = || changes.next().now_or_never().expect("no wait");
        assert_eq!((next(), next()), (Some(Change::Ended(first.id(), EndReason::Evicted)), None));
    }

    #[test]
    fn a_listener_that_falls_behind_is_told_so() {
        let store = Store::new();
        let mut changes = store.sessions.changes.listen();
        let id = store.visitor().id();
        (0..2_000).for_each(|_| store.put(id, "a", 1));
        let mut next = || changes.next().now_or_never().flatten();
        assert_eq!(next(), Some(Change::Missed));
        assert!(matches!(next(), Some(Change::Patched(..))));
    }
}

const IDLE: Duration = Duration::from_secs(1_800);
const DAY: Duration = Duration::from_secs(86_400);

/// Room for 1,000 records of up to 4 KiB.
const SMALL: Budget = Budget { records: 1_000, bytes: 4 << 20 };

struct Store {
    sessions: Sessions,
    clock: ManualClock,
    keyring: Keyring,
}

impl Store {
    fn new() -> Self {
        Self::with(Budget::ANONYMOUS, Budget::AUTHENTICATED)
    }

    fn with(anonymous: Budget, authenticated: Budget) -> Self {
        let clock = ManualClock::default();
        let env = Env::with_clock(clock.clone());
        let cache = ShardedLru::new(anonymous, authenticated);
        Self {
            sessions: Sessions::new(env, Limits::default(), cache),
            clock,
            keyring: Keyring::unkeyed(),
        }
    }

    fn now(&self) -> Timestamp {
        self.sessions.env.now()
    }

    fn id(&self) -> RecordId {
        RecordId::random(&self.sessions.env).unwrap()
    }

    fn token(&self, id: RecordId) -> Token {
        Token::generate(id, &self.sessions.env).unwrap()
    }

    fn hash(&self, token: &Token) -> SecretHash {
        self.keyring.hash(&Realm::default(), token.secret())
    }

    fn prove(&self, token: &Token) -> Proof {
        self.keyring.prove(&Realm::default(), token.secret())
    }

    fn record(&self, token: &Token) -> Record {
        let now = self.now();
        Record::new(self.hash(token), now, now + IDLE, now + 2 * IDLE)
    }

    fn create(&self, id: RecordId, token: &Token, principal: Option<Principal>) -> Outcome {
        let mut record = self.record(token);
        record.principal = principal;
        self.sessions.create(id, record, LoginPolicy::default())
    }

    fn visitor(&self) -> Token {
        let token = self.token(self.id());
        applied(self.create(token.id(), &token, None));
        token
    }

    fn user(&self, name: &str) -> Token {
        let token = self.token(self.id());
        applied(self.create(token.id(), &token, Some(principal(name))));
        token
    }

    /// A visitor who signed in as alice.
    fn member(&self) -> Token {
        self.login(&self.visitor(), &principal("alice"))
    }

    fn flood(&self, visitors: usize) {
        (0..visitors).for_each(|_| drop(self.visitor()));
    }

    fn rotation(
        &self,
        old: &Token,
        new: &Token,
        principal: Option<&Principal>,
        policy: LoginPolicy,
    ) -> Patch {
        let mut patch = Patch::new();
        let authentication = Authentication {
            at: self.now(),
            absolute_deadline: self.now() + 2 * IDLE,
            principal: principal.cloned(),
            facts: None,
            policy,
        };
        let rotation = Rotation { hash: self.hash(new), authentication: Some(authentication) };
        patch.rotate(self.prove(old), rotation);
        patch
    }

    fn try_login(&self, token: &Token, principal: &Principal, policy: LoginPolicy) -> Outcome {
        let patch = self.rotation(token, &self.token(token.id()), Some(principal), policy);
        self.update(token.id(), &patch)
    }

    fn load(&self, id: RecordId, proof: Option<&Proof>) -> Lookup {
        self.sessions.load(id, proof).unwrap()
    }

    fn update(&self, id: RecordId, patch: &Patch) -> Outcome {
        self.sessions.update(id, patch).unwrap()
    }

    fn delete(&self, id: RecordId, proof: Option<&Proof>) -> bool {
        let deletion = Deletion { proof, ..Deletion::for_reason(EndReason::Logout) };
        self.sessions.delete(id, &deletion).unwrap() == Deleted::Ended
    }

    fn delete_all(&self, of: &Principal, except: Option<RecordId>, epoch: Option<u64>) -> u64 {
        self.sessions.delete_all(of, Revocation { except, epoch, reason: EndReason::Logout })
    }

    fn login(&self, token: &Token, principal: &Principal) -> Token {
        let next = self.token(token.id());
        let patch = self.rotation(token, &next, Some(principal), LoginPolicy::default());
        applied(self.update(token.id(), &patch));
        next
    }

    /// Signs in as alice one second later. Returns the sessions that the cap ended.
    fn capped_login(&self, token: &Token, cap: usize) -> Vec<RecordId> {
        self.clock.advance(Duration::from_secs(1));
        let policy = LoginPolicy::capped(cap);
        applied(self.try_login(token, &principal("alice"), policy)).ended
    }

    fn admits(&self, name: &str, epoch: Option<u64>) -> bool {
        let policy = LoginPolicy { epoch, ..LoginPolicy::default() };
        let outcome = self.try_login(&self.visitor(), &principal(name), policy);
        matches!(outcome, Outcome::Applied(_))
    }

    fn try_put(&self, id: RecordId, key: &str, bytes: usize) -> bool {
        let mut patch = Patch::new();
        patch.put(key, RawJson::encode(&"x".repeat(bytes)).unwrap()).unwrap();
        matches!(self.update(id, &patch), Outcome::Applied(_))
    }

    fn put(&self, id: RecordId, key: &str, bytes: usize) {
        assert!(self.try_put(id, key, bytes));
    }

    fn add(&self, id: RecordId) -> Applied {
        let mut patch = Patch::new();
        patch.add("n", 1).unwrap();
        applied(self.update(id, &patch))
    }

    fn touch(&self, id: RecordId) {
        let patch = Patch::touch(self.now() + IDLE);
        applied(self.update(id, &patch));
    }

    /// Grows and shrinks records until each is evicted, then uses each once more.
    fn use_until_gone(&self, flooding: &AtomicBool) {
        while flooding.load(Ordering::Relaxed) {
            let id = self.visitor().id();
            let mut applied = 0;
            while flooding.load(Ordering::Relaxed)
                && self.try_put(id, "blob", 5_000 * (applied % 2))
            {
                applied += 1;
            }
            if flooding.load(Ordering::Relaxed) {
                assert!(!self.has(id) && !self.try_put(id, "blob", 1) && !self.has(id));
            }
        }
    }

    fn has(&self, id: RecordId) -> bool {
        matches!(self.load(id, None), Lookup::Found(_))
    }

    fn listed(&self, name: &str) -> usize {
        self.sessions.list(&principal(name)).len()
    }

    fn stats(&self) -> steadfast_core::Stats {
        self.sessions.finish_evictions();
        self.sessions.cache.stats()
    }
}

fn principal(name: &str) -> Principal {
    Principal::new(Realm::default(), name).unwrap()
}

fn applied(outcome: Outcome) -> Applied {
    match outcome {
        Outcome::Applied(applied) => applied,
        other => panic!("{other:?}"),
    }
}

fn absence(lookup: Lookup) -> Absence {
    match lookup {
        Lookup::Absent(absence) => absence,
        other => panic!("{other:?}"),
    }
}
