//! Requests that come in at the same time, and take what is read once.

use tokio::task::JoinSet;

use crate::service::Service;
use crate::visits::visit;

/// Twelve requests on all nodes: one of them pops the value, and each message is read by one.
pub async fn check(service: Service) {
    let cookies = visit(service.node(0), String::new(), |session| async move {
        session.insert("ticket", 7).await
    });
    let cookies = cookies.await.1;
    let mut leaving = JoinSet::new();
    for n in 0..3 {
        leaving.spawn(visit(service.node(n), cookies.clone(), move |session| async move {
            session.flash(n).await
        }));
    }
    leaving.join_all().await;
    let mut taking = JoinSet::new();
    for n in 0..12 {
        taking.spawn(visit(service.node(n), cookies.clone(), |session| async move {
            let popped = session.pop::<i64>("ticket").await?;
            Ok((popped, session.take_flashes::<usize>().await?))
        }));
    }
    let taken: Vec<_> = taking.join_all().await.into_iter().map(|(taken, _)| taken).collect();
    let popped: Vec<_> = taken.iter().filter_map(|(popped, _)| *popped).collect();
    assert_eq!(popped, [7]);
    let mut messages: Vec<_> = taken.into_iter().flat_map(|(_, messages)| messages).collect();
    messages.sort_unstable();
    assert_eq!(messages, [0, 1, 2]);
}
