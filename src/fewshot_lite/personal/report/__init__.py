"""HTML reports: one self-contained page each, without scripts.

    from fewshot_lite.personal.report.adapting import write_adapt_report
    from fewshot_lite.personal.report.classifying import write_classify_report

    personal = fewshot_lite.load().adapt("my_objects")
    write_adapt_report(personal, "report.html")
    write_classify_report(personal, personal.classify_stream(paths), "answers.html")

The modules gather the values on a page; the Jinja2 templates lay them out.
"""
