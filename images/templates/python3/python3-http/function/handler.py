"""Answers the calls to this function. Save a change: the next call runs it."""


def handle(event, context):
    """event: body (bytes), headers, method, query, path; context: hostname."""
    name = event.query.get("name", "world")
    return {
        "statusCode": 200,
        "body": f"Hello, {name}! You sent {len(event.body)} bytes by {event.method}.\n",
        "headers": {"Content-Type": "text/plain; charset=utf-8"},
    }
