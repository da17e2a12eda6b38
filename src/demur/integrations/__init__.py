"""Guards under the conventions of other libraries."""
