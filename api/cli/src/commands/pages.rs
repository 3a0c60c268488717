//! Lists that come page by page.

use fourmi_client::ClientError;

/// The most that the API gives in one page.
const PAGE: usize = 200;

/// What a list holds, or a part of it, and where its next page starts.
type Page<T> = (Vec<T>, Option<String>);

/// Asks for pages from `cursor` on until there are as many items as are wanted, or no more. `ask` is told how many fit into
/// the page and where it starts.
pub(crate) async fn collect<T>(
    wanted: usize,
    mut cursor: Option<String>,
    ask: impl AsyncFn(usize, Option<String>) -> Result<Page<T>, ClientError>,
) -> Result<Page<T>, ClientError> {
    let mut all = Vec::new();
    loop {
        let (page, next) = ask((wanted - all.len()).min(PAGE), cursor).await?;
        all.extend(page);
        if next.is_none() || all.len() >= wanted {
            return Ok((all, next));
        }
        cursor = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_is_asked_for_than_is_wanted() {
        let asked = std::cell::RefCell::new(Vec::new());
        let ask = async |limit: usize, cursor: Option<String>| {
            let start: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
            asked.borrow_mut().push((start, limit));
            let page: Vec<usize> = (start..450.min(start + limit)).collect();
            let next = start + page.len();
            Ok((page, (next < 450).then(|| next.to_string())))
        };
        let (some, next) = collect(250, Some("10".to_owned()), ask).await.unwrap();
        assert_eq!((some, next), ((10..260).collect(), Some("260".to_owned())));
        assert_eq!(asked.take(), [(10, 200), (210, 50)]);
        let (all, next) = collect(usize::MAX, None, ask).await.unwrap();
        assert_eq!((all.len(), next), (450, None));
    }
}
