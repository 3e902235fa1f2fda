"""GraphQL, `/graphql`: what REST offers, for callers who name the fields they want of several things at once."""
