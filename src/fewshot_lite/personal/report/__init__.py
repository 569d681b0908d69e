"""Reports to look at: one HTML page each, with everything in it; nothing is loaded or run.

    from fewshot_lite.personal.report.adapting import write_adapt_report
    from fewshot_lite.personal.report.classifying import write_classify_report

    personal = fewshot_lite.load().adapt("my_objects")
    write_adapt_report(personal, "report.html")
    write_classify_report(personal, personal.classify_stream(paths), "answers.html")

What is on a page is gathered here as plain values; how it looks is in the Jinja2 templates.
"""
