defmodule Image.ZeroShot.ProjectTest do
  # What is around the code: the package, its documentation, the rules for coding assistants, and CI.
  use ExUnit.Case, async: true

  alias Image.ZeroShot.Call.OptionTable

  @rules File.read!("usage-rules.md")

  test "every pattern of the package matches a file" do
    for pattern <- Mix.Project.config()[:package][:files],
        do: assert(Path.wildcard(pattern, match_dot: true) != [], pattern)
  end

  test "every page of the documentation exists, in one group at most" do
    docs = Mix.Project.config()[:docs]
    pages = pages(docs)
    for page <- pages, do: assert(File.regular?(page), page)
    grouped = docs[:groups_for_extras] |> Keyword.values() |> Enum.concat()
    assert grouped -- pages == []
    assert grouped == Enum.uniq(grouped)

    for {group, files} <- [Guides: "guides/*.md", Notebooks: "livebooks/*.livemd"],
        do: assert(Enum.sort(docs[:groups_for_extras][group]) == Path.wildcard(files))
  end

  # A link to another file with the name of a page, such as README.md, would lead to that page.
  test "pages of the documentation link to pages and pictures of it only" do
    docs = Mix.Project.config()[:docs]

    pages = pages(docs)

    for page <- pages,
        [_, target] <- Regex.scan(~r/\]\(([^)\s#]+)[^)]*\)/, File.read!(page)),
        not String.contains?(target, ":") do
      path =
        page |> Path.dirname() |> Path.join(target) |> Path.expand() |> Path.relative_to_cwd()

      assert path in pages or Path.dirname(path) in Map.keys(docs[:assets]),
             "#{page} links to #{target}, which is not in the documentation"
    end
  end

  # ExDoc's pages of notebooks have a badge of their own, with the address that they are read at.
  test "README has a badge for each notebook once mix.exs has the address of the repository" do
    readme = File.read!("README.md")
    url = Mix.Project.config()[:source_url]

    for path <- Path.wildcard("livebooks/*.livemd") do
      run = "https://livebook.dev/run?url=" <> URI.encode_www_form("#{url}/blob/main/#{path}")
      badge = "[![Run in Livebook](https://livebook.dev/badge/v1/blue.svg)](#{run})"
      assert url == nil or readme =~ badge, "README.md lacks #{badge}"
    end

    assert url != nil or not (readme =~ "livebook.dev/run")
  end

  # `(() -> t)` of Elixir 1.14 is `(-> t)` from 1.17 on, and `mix format` insists on its own.
  test "types are written so that the formatters of all Elixirs leave them" do
    for folder <- ~w(lib test/support bench examples),
        path <- Path.wildcard(folder <> "/**/*.{ex,exs}"),
        do: refute(File.read!(path) =~ ~r/\(\(\) ->|\(-> /, path)
  end

  test "every picture of the guides is shown, and says in words what it shows" do
    guides = "guides/*.md" |> Path.wildcard() |> Enum.map_join(&File.read!/1)
    pictures = Path.wildcard("guides/images/*")
    assert pictures != []

    for picture <- pictures do
      assert guides =~ ~r/!\[[^\]]{40,}\]\(images\/#{Path.basename(picture)}\)/, picture
    end

    for picture <- Path.wildcard("guides/images/*.svg") do
      svg = File.read!(picture)
      assert svg =~ ~r{<title id="t">\S.*</title>\s*<desc id="d">\S.*</desc>}, picture
      refute svg =~ ~r/<script|href|@import|url\(http/, picture
    end
  end

  test "every screenshot is shown in README with words, and is small" do
    screens = Path.wildcard("guides/screens/*")
    assert screens != []

    for screen <- screens do
      assert File.read!("README.md") =~ ~r/!\[\S[^\]]*\]\(#{Regex.escape(screen)}\)/
      assert <<0x89, "PNG", _::binary>> = File.read!(screen)
      assert File.stat!(screen).size < 200_000
    end
  end

  test "no page of the documentation has the name of one that ExDoc writes itself" do
    names =
      for extra <- Mix.Project.config()[:docs][:extras] do
        case extra do
          {_path, filename: name} -> name
          path -> path |> Path.basename() |> Path.rootname() |> String.downcase()
        end
      end

    assert names == Enum.uniq(names)
    for name <- ~w(404 api-reference index llms search), do: refute(name in names)
  end

  defp pages(docs) do
    for extra <- docs[:extras], do: if(is_tuple(extra), do: elem(extra, 0), else: extra)
  end

  test "every public module is in a group of the documentation" do
    {:ok, modules} = :application.get_key(:image_zero_shot, :modules)

    public =
      for module <- modules,
          List.starts_with?(Module.split(module), ["Image", "ZeroShot"]),
          match?({:docs_v1, _, _, _, %{"en" => _}, _, _}, Code.fetch_docs(module)),
          do: module

    grouped =
      Mix.Project.config()[:docs][:groups_for_modules] |> Keyword.values() |> Enum.concat()

    assert Enum.sort(public) == Enum.sort(grouped)
  end

  describe "usage-rules.md" do
    test "names functions that exist" do
      calls = Regex.scan(~r/Image\.ZeroShot\.(\w+)\(([^)]*)\)/, @rules)
      assert length(calls) >= 5
      Code.ensure_loaded!(Image.ZeroShot)

      for [call, name, arguments] <- calls do
        arity = arguments |> String.split(",") |> length()
        assert function_exported?(Image.ZeroShot, String.to_atom(name), arity), call
      end
    end

    test "names options that exist, and their defaults" do
      rows = table("Options that matter")
      assert length(rows) >= 8

      for [options, default | _] <- rows, [_, name] <- Regex.scan(~r/`:(\w+)`/, options) do
        groups = ~w(repo model target call labels scores results serving picture_limits)a
        option = groups |> OptionTable.rows() |> List.keyfind(String.to_atom(name), 0)
        assert option != nil, name

        # Limits are rounded for people.
        if default =~ "`",
          do:
            assert(
              {Code.eval_string(String.trim(default, "`")), name} == {{elem(option, 2), []}, name}
            )
      end
    end

    test "names reasons that are documented" do
      {:docs_v1, _, _, _, %{"en" => documentation}, _, _} = Code.fetch_docs(Image.ZeroShot.Error)
      rows = table("Errors")
      assert length(rows) >= 5

      for [reasons | _] <- rows,
          [reason] <- Regex.scan(~r/`:\w+`/, reasons),
          do: assert(documentation =~ reason, reason)
    end

    test "is a page" do
      assert @rules |> String.split("\n") |> length() < 120
    end
  end

  # Elixir's page "Compatibility and deprecations".
  @supported %{
    "1.14" => 23..26,
    "1.15" => 24..26,
    "1.16" => 24..26,
    "1.17" => 25..27,
    "1.18" => 25..27,
    "1.19" => 26..28,
    "1.20" => 27..29
  }

  test "CI runs every supported Elixir, with an OTP that it supports" do
    pairs =
      Regex.scan(
        ~r/elixir(?:-version)?: "([\d.]+)"\s*,?\s*otp(?:-version)?: "(\d+)"/,
        File.read!(".github/workflows/ci.yml"),
        capture: :all_but_first
      )

    assert pairs |> Enum.map(&hd/1) |> Enum.sort() == @supported |> Map.keys() |> Enum.sort()
    for [elixir, otp] <- pairs, do: assert(String.to_integer(otp) in @supported[elixir], elixir)
    assert Enum.uniq(for [_, otp] <- pairs, do: otp) |> Enum.sort() == ~w(25 26 27 28)
  end

  describe "the Dockerfile" do
    @dockerfile File.read!("Dockerfile")

    test "runs tasks that exist, and starts the release that they make" do
      tasks = for [_, task] <- Regex.scan(~r/^RUN .*\bmix (\S+)/m, @dockerfile), do: task
      assert tasks == ~w(compile download_models release)
      for task <- tasks, do: assert(Mix.Task.get(task), task)
      app = Mix.Project.config()[:app]
      assert @dockerfile =~ ~s(ENTRYPOINT ["/app/bin/#{app}"])
    end

    test "sees every file of the package" do
      ignored = for line <- String.split(File.read!(".dockerignore"), "\n", trim: true), do: line

      files =
        for pattern <- Mix.Project.config()[:package][:files],
            path <- Path.wildcard(pattern, match_dot: true),
            do: path

      assert files != []

      for file <- files,
          line <- ignored,
          do: refute(file == line or String.starts_with?(file, line <> "/"))
    end
  end

  # The cells of the table under a heading, without its head.
  defp table(heading) do
    [_, section] = String.split(@rules, "## #{heading}\n", parts: 2)
    [section | _] = String.split(section, "\n## ", parts: 2)

    for "| " <> row <- String.split(section, "\n"), not String.starts_with?(row, "---") do
      row |> String.trim_trailing("|") |> String.split("|") |> Enum.map(&String.trim/1)
    end
    |> tl()
  end
end
