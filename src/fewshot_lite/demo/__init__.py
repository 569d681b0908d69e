"""What `fewshot-lite demo` shows: a personaliser at work without a download or a camera."""
