use serde_json::json;

use super::*;
use crate::{
    applications, messages,
    testing::{Say, Served},
};

fn application(number: u8) -> serde_json::Value {
    json!({
        "id": format!("03ef14b0-ca33-4840-8f4f-0000000000{number:02}"),
        "appId": format!("631a96bc-a705-4eda-9f99-0000000000{number:02}"),
        "displayName": format!("app {number}"),
        // Derived types are listed among the applications; what we do not know of them is no fault.
        "@odata.type": "#microsoft.graph.agentIdentityBlueprint", "unknown": { "to": "us" },
    })
}

fn page(applications: &[u8], next: Option<&str>) -> Say {
    let mut body = json!({ "value": applications.iter().map(|&n| application(n)).collect::<Vec<_>>() });
    if let Some(next) = next {
        body["@odata.nextLink"] = json!(next);
    }
    Say::json(200, body)
}

#[tokio::test]
async fn pages_are_followed_verbatim_even_when_empty() {
    let served = Served::start([
        page(&[1, 2], Some("{base}/v1.0/applications?$skiptoken=a%2Bb%27c&$top=2")),
        page(&[], Some("{base}/v1.0/applications?$skiptoken=z")),
        page(&[3], None),
    ])
    .await;
    let all = applications::list(&served.graph).all(10).await.unwrap();
    assert_eq!(all.iter().map(|app| app.display_name.as_str()).collect::<Vec<_>>(), ["app 1", "app 2", "app 3"]);
    assert_eq!(
        served.lines()[1..],
        ["GET /v1.0/applications?$skiptoken=a%2Bb%27c&$top=2", "GET /v1.0/applications?$skiptoken=z",]
    );
}

#[tokio::test]
async fn headers_are_sent_again_with_every_page() {
    let served = Served::start([page(&[], Some("{base}/v1.0/users/x/messages?$skip=10")), page(&[], None)]).await;
    let mailbox: postkey_base::EmailAddress = "noreply@contoso.example".parse().unwrap();
    messages::find_by_internet_message_id(&served.graph, &mailbox, None, "<it's@postkey>").await.unwrap();
    let seen = served.seen();
    assert!(
        seen[0].line.contains("$filter=internetMessageId%20eq%20%27%3Cit%27%27s@postkey%3E%27&"),
        "{}",
        seen[0].line
    );
    assert_eq!(seen[1].header("prefer"), Some("IdType=\"ImmutableId\""));
}

#[tokio::test]
async fn a_link_that_leaves_graph_gets_neither_request_nor_token() {
    for link in [
        "https://graph.attacker.example/v1.0/applications?$skiptoken=a",
        "http://127.0.0.1:1/v1.0/applications",
        "https://127.0.0.1/v1.0/applications",
        "//graph.attacker.example/",
        "/v1.0/applications",
        "ftp://x",
    ] {
        let served = Served::start([page(&[1], Some(link))]).await;
        let error = applications::list(&served.graph).all(10).await.unwrap_err();
        assert!(
            matches!(error, GraphError::Unreadable { cause: Unreadable::LeavesGraph { .. }, .. }),
            "{link}: {error:?}"
        );
        assert_eq!(served.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_list_has_an_end() {
    let again = "{base}/v1.0/applications?$skiptoken=a";
    let served = Served::start(vec![page(&[1], Some(again)); 3]).await;
    let error = applications::list(&served.graph).all(10).await.unwrap_err();
    assert!(matches!(error, GraphError::Unreadable { cause: Unreadable::GoesInCircles, .. }), "{error:?}");

    let served = Served::start([page(&[1, 2, 3], None)]).await;
    let error = applications::list(&served.graph).all(2).await.unwrap_err();
    assert!(matches!(error, GraphError::Unreadable { cause: Unreadable::TooMany { limit: 2, .. }, .. }), "{error:?}");

    let served = Served::start([page(&[1, 2, 3], Some(again))]).await;
    assert_eq!(applications::list(&served.graph).first(2).await.unwrap().len(), 2);
    assert_eq!(served.seen().len(), 1);
}
