//! Lists that come page by page.

use futures_util::{Stream, StreamExt, stream};

use crate::ClientError;

/// Everything on all pages from the one of `query` on, each asked for when it is needed. `ask` gives a page and the query of
/// the next one. After an error the same page is asked for again.
pub(crate) fn all<Q, T, A>(
    query: Q,
    ask: impl Fn(Q) -> A + Clone + Send,
) -> impl Stream<Item = Result<T, ClientError>> + Send
where
    Q: Clone + Send,
    T: Send,
    A: Future<Output = Result<(Vec<T>, Option<Q>), ClientError>> + Send,
{
    let pages = stream::unfold(Some(query), move |query| {
        let ask = ask.clone();
        async move {
            let query = query?;
            match ask(query.clone()).await {
                Ok((items, next)) => Some((stream::iter(items.into_iter().map(Ok).collect::<Vec<_>>()), next)),
                Err(error) => Some((stream::iter(vec![Err(error)]), Some(query))),
            }
        }
    });
    pages.flatten()
}
