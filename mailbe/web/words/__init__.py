"""All that the pages say, in each language. What stands in braces is put in; names of buttons are Thunderbird's own."""
