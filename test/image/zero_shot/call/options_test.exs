defmodule Image.ZeroShot.OptionsTest do
  # Application configuration belongs to the whole VM.
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Image.ZeroShot.Packaging
  alias Image.ZeroShot.Call.{OptionTable, OptionType, Options, OptionValues, Secret, Templates}

  defp message(opts, verb \\ :classify!) do
    assert_raise(ArgumentError, fn -> apply(Options, verb, [opts]) end).message
  end

  defp configure(name, value) do
    Application.put_env(:image_zero_shot, name, value)
    on_exit(fn -> Application.delete_env(:image_zero_shot, name) end)
  end

  describe "defaults" do
    test "are the documented ones" do
      opts = Options.classify!([])

      assert opts.repo == "openai/clip-vit-base-patch32"
      assert opts.template == ["a photo of {label}"]
      assert opts.device == :auto
      assert opts.background == {255, 255, 255}
      assert opts.max_bytes == 25_000_000
      assert opts.max_pixels == 50_000_000
      assert opts.max_side == 16_384
      assert opts.max_decode_bytes == 536_870_912
      assert opts.max_labels == 10_000
      assert opts.max_prompts == 100_000
      assert opts.max_label_bytes == 4_096
      assert Path.basename(opts.cache_dir) == "image_zero_shot"
      assert Path.type(opts.cache_dir) == :absolute
    end

    test "come from the application's configuration, read by each call" do
      configure(:repo, :embedded)
      assert Options.classify!([]).repo == :embedded
      assert Options.model!([]).repo == :embedded

      configure(:repo, {:local, "models"})
      assert Options.embed!([]).repo == {:local, "models"}

      configure(:device, {:cuda, 1})
      assert Options.model!([]).device == {:cuda, 1}

      configure(:cache_dir, "/cache")
      assert Options.model!([]).cache_dir == "/cache"

      configure(:template, nil)
      assert Options.classify!([]).template == [nil]
    end

    test "give way to options of the call" do
      configure(:repo, :embedded)
      configure(:template, "one {label}")

      opts = Options.classify!(repo: {:local, "models"}, template: nil)
      assert {opts.repo, opts.template} == {{:local, "models"}, [nil]}
    end

    test "in the configuration are checked, and the error says that they stand there" do
      configure(:device, :gpu)

      assert message([]) ==
               "expected :device in the config of image_zero_shot to be " <>
                 ":auto, :cpu, :cuda, {:cuda, index} or :mps, got: :gpu"
    end
  end

  describe "servings" do
    @serving [max_queue: 3, max_batch: 5, concurrency: 2, threads: 7]

    test "take their options from the configuration if a call starts them" do
      for {name, value} <- @serving, do: configure(name, value)
      assert Map.take(Options.classify!([]), Keyword.keys(@serving)) == Map.new(@serving)
      assert Options.load!(concurrency: 1).concurrency == 1
      assert message(max_queue: 1) =~ "unknown option :max_queue;"
    end

    test "need an atom as :name" do
      opts = Options.serving!([name: My.Clip, repo: :embedded] ++ @serving)
      assert %{name: My.Clip, repo: :embedded, max_queue: 3, threads: 7} = opts

      for name <- [nil, "clip", 1] do
        assert message([name: name], :serving!) ==
                 "expected :name to be an atom such as MyApp.Clip, got: #{inspect(name)}"
      end
    end

    test "cannot be combined with a model in one call" do
      assert Options.classify!(serving: My.Clip).serving == My.Clip

      assert message(serving: My.Clip, repo: :embedded) ==
               "expected :repo not to be given together with :serving, whose model was chosen " <>
                 "where it was started, got: [repo: :embedded]"

      configure(:serving, My.Clip)
      assert Options.classify!([]).serving == My.Clip
      assert Options.classify!(repo: :embedded).serving == nil
      assert Options.classify!(serving: nil, repo: :embedded).serving == nil
    end

    test "and calls take :infinity for :timeout and :max_queue" do
      assert Options.classify!(timeout: :infinity).timeout == :infinity
      assert Options.classify!(timeout: 0).timeout == 0
      assert Options.load!(max_queue: :infinity).max_queue == :infinity

      for {name, value} <- [timeout: -1, timeout: nil, serving: "clip"],
          do: assert(message([{name, value}]) =~ "expected #{inspect(name)} to be ")

      for {name, value} <- [
            max_queue: 0,
            max_batch: 0,
            concurrency: 0,
            threads: 1.0,
            concurrency: 2_000
          ],
          do: assert(message([{name, value}], :load!) =~ "expected #{inspect(name)} to be ")
    end
  end

  describe "names" do
    test "of a serving's options in another call say where they belong" do
      assert message(concurrency: 2) ==
               "unknown option :concurrency; it belongs to Image.ZeroShot.load/1, to " <>
                 "Image.ZeroShot.Serving and to the configuration"
    end

    test "that are unknown in the configuration are logged when the application starts" do
      configure(:tempalte, nil)
      configure(:max_queue, 3)
      log = capture_log(&OptionValues.warn_of_unknown_configuration/0)

      assert log =~
               "config :image_zero_shot has an unknown option :tempalte; did you mean :template?"

      refute log =~ "max_queue"
    end

    test "that are misspelt raise with the nearest name" do
      assert message(tempalte: nil) == "unknown option :tempalte; did you mean :template?"
      assert message(model: :embedded) == "unknown option :model; the model is given as :repo"
      # Not :scores.
      assert message(copies: 2) =~ ~r/^unknown option :copies; the options are /
      assert message(max_byte: 1) == "unknown option :max_byte; did you mean :max_bytes?"
      assert message([devise: :cpu], :model!) == "unknown option :devise; did you mean :device?"
    end

    test "that resemble none raise with the list of names" do
      assert message([top: 1], :model!) ==
               "unknown option :top; the options are :timeout, :serving, :repo, :device, :precision, :cache_dir, " <>
                 ":torchscript, :revision, :token, :offline, :hub_cache, :hub_endpoint"
    end

    test "of label options are unknown to similarity" do
      assert message([template: nil], :embed!) =~
               "unknown option :template; it belongs to other calls; the options here are :timeout, "

      assert message([max_labels: 1], :embed!) =~ "unknown option :max_labels;"
    end

    test "are refused outside a keyword list" do
      assert message(%{repo: :embedded}) ==
               "expected options to be a keyword list, got: %{repo: :embedded}"

      assert message([:repo]) == "expected options to be a keyword list, got: [:repo]"
    end
  end

  describe "values" do
    test ":repo" do
      for repo <- [:embedded, {:local, "dir"}, "org/name", {:hf, "org/name"}, {:hf, "a/b", []}] do
        assert Options.model!(repo: repo).repo == repo
      end

      for repo <- [nil, "", {:local, ""}, {:local, ~c"dir"}, :other, {:hf, 1}, {:local, <<255>>}] do
        assert message(repo: repo) ==
                 "expected :repo to be :embedded, {:local, directory}, a name such as \"org/name\" " <>
                   "or {:hf, name, revision: revision}; a token goes into :token, " <>
                   "got: #{inspect(repo)}"
      end
    end

    test ":template" do
      for template <- [nil, "{label}", "a {label}, a {label}"] do
        assert Options.classify!(template: template).template == [template]
      end

      assert Options.classify!(template: ["{label}", nil]).template == ["{label}", nil]
      assert [_ | _] = all = Options.classify!(template: :openai_imagenet).template
      assert {length(all), hd(all)} == {80, "a bad photo of a {label}."}
      assert length(Options.classify!(template: :simple_imagenet).template) == 7

      bad = ["a photo", "", "{ label }", :label, [], ["{label}" | nil], ["a"], <<255, "{label}">>]

      for template <- bad do
        assert message(template: template) ==
                 "expected :template to be nil, a string that contains {label} such as " <>
                   ~s("a photo of {label}", a list of those ) <>
                   "or one of :openai_imagenet, :simple_imagenet, got: #{inspect(template)}"
      end
    end

    test ":device" do
      for device <- [:auto, :cpu, :cuda, :mps, {:cuda, 0}, {:cuda, 7}] do
        assert Options.model!(device: device).device == device
      end

      for device <- [nil, :gpu, "cpu", {:cuda, -1}, {:cuda, "0"}, {:cpu, 0}, {:cuda, 1.0}] do
        assert message(device: device) ==
                 "expected :device to be :auto, :cpu, :cuda, {:cuda, index} or :mps, " <>
                   "got: #{inspect(device)}"
      end
    end

    test ":background" do
      colours = [
        {:drop, :drop},
        {:white, {255, 255, 255}},
        {:black, {0, 0, 0}},
        {{1, 2, 3}, {1, 2, 3}}
      ]

      for {given, colour} <- colours do
        assert Options.embed!(background: given).background == colour
      end

      for colour <- [nil, :red, "white", {0, 0}, {0, 0, 256}, {0.0, 0, 0}, [0, 0, 0]] do
        assert message(background: colour) ==
                 "expected :background to be :white, :black, {red, green, blue} with numbers " <>
                   "from 0 to 255 or :drop, got: #{inspect(colour)}"
      end
    end

    test ":color_profile" do
      assert Options.embed!([]).color_profile == :ignore

      for profile <- [:ignore, :srgb],
          do: assert(Options.classify!(color_profile: profile).color_profile == profile)

      for profile <- [nil, true, "srgb", :p3, "sRGB.icc"] do
        assert message(color_profile: profile) ==
                 "expected :color_profile to be :ignore or :srgb, got: #{inspect(profile)}"
      end

      assert message(colour_profile: :srgb) ==
               "unknown option :colour_profile; did you mean :color_profile?"
    end

    test "of several kinds are listed as in a sentence" do
      for {opts, expected} <- [
            {[offline: 1], "true, false or nil"},
            {[revision: 1], "a branch, a tag, a commit or nil"},
            {[timeout: -1], "an integer from 0 to 4294967295 or :infinity"}
          ] do
        assert message(opts) =~ ~r/ to be #{expected}, got: -?1\z/
      end

      assert_raise ArgumentError,
                   ~r/a list of labels, the path of a file with them or nil, got/,
                   fn ->
                     Options.suggest!(vocabulary: 1)
                   end
    end

    test ":cache_dir" do
      assert Options.model!(cache_dir: "some/dir").cache_dir == Path.expand("some/dir")
      assert Options.model!(cache_dir: nil).cache_dir == Options.model!([]).cache_dir

      for dir <- ["", :tmp, ~c"/tmp", <<255>>] do
        assert message(cache_dir: dir) ==
                 "expected :cache_dir to be a directory or nil, got: #{inspect(dir)}"
      end
    end

    test ":cache_dir defaults to the user's, and to nil without a home" do
      default = fn env -> Packaging.with_env(env, fn -> Options.model!([]).cache_dir end) end

      if match?({:unix, :linux}, :os.type()) do
        assert default.(%{"XDG_CACHE_HOME" => "/xdg", "HOME" => "/me"}) == "/xdg/image_zero_shot"
        home = %{"XDG_CACHE_HOME" => nil, "HOME" => "/me"}
        assert default.(home) == "/me/.cache/image_zero_shot"
        assert default.(%{home | "XDG_CACHE_HOME" => ""}) == "/me/.cache/image_zero_shot"
      end

      for none <- [nil, ""],
          do: assert(default.(%{"XDG_CACHE_HOME" => none, "HOME" => none}) == nil)
    end

    test "limits" do
      for name <-
            ~w(max_bytes max_pixels max_side max_decode_bytes max_decode_ms)a ++
              ~w(max_labels max_label_bytes max_prompts)a do
        assert Options.classify!([{name, 1}])[name] == 1

        for value <- [0, -1, 1.0, nil, "1", :infinity, 0x1_0000_0000] do
          assert message([{name, value}]) ==
                   "expected #{inspect(name)} to be an integer from 1 to 4294967295, " <>
                     "got: #{inspect(value)}"
        end
      end
    end
  end

  describe "options of the Hub" do
    test "are left to the environment unless they are given" do
      opts = Options.model!(repo: "org/name")

      for name <- [:revision, :token, :offline, :hub_cache, :hub_endpoint, :torchscript],
          do: assert(opts[name] == nil)
    end

    test "accept valid values and refuse others" do
      good = [
        revision: "refs/pr/15",
        offline: true,
        offline: false,
        hub_endpoint: "https://mirror.test",
        token: false
      ]

      for {name, value} <- good, do: assert(Options.model!([{name, value}])[name] == value)

      for name <- [:hub_cache, :torchscript],
          do: assert(Options.model!([{name, "dir"}])[name] == Path.expand("dir"))

      for {name, value} <- [
            revision: 1,
            offline: "1",
            hub_endpoint: "huggingface.co",
            hub_cache: 1
          ] do
        assert message([{name, value}]) =~ ~r/^expected #{inspect(name)} to be .*, got: /
      end
    end

    test "are checked in :revision and in {:hf, name, revision: revision}" do
      for opts <- [[revisoin: "x"], [revision: 1], ["main"], :main] do
        assert message(repo: {:hf, "org/name", opts}) =~
                 "or {:hf, name, revision: revision}; a token goes into :token, got: "
      end

      assert message(repo: :embedded, revision: "main") ==
               "expected :repo to be the name of a model where :revision is given, got: :embedded"
    end

    test "drop a configured revision if the call names another repository" do
      revision = fn opts -> Options.model!(opts).revision end
      hf = {:hf, "org/other", revision: "v2"}
      assert revision.(repo: hf) == "v2"
      assert revision.(repo: hf, revision: "v3") == "v3"
      configure(:repo, "org/name")
      configure(:revision, "v1")
      assert revision.([]) == "v1"
      assert revision.(revision: nil) == nil
      assert revision.(repo: "org/other") == nil
      assert revision.(repo: :embedded) == nil
      assert revision.(repo: hf) == "v2"
    end

    test ":refresh and :progress are known to downloads only" do
      assert %{refresh: false, progress: nil, repo: "a/b"} = Options.hub!("a/b", [])

      assert %{refresh: true, progress: pid} =
               Options.hub!("a/b", refresh: true, progress: self())

      assert pid == self()

      for opts <- [[refresh: 1], [progress: :me], [device: :cpu]],
          do: assert_raise(ArgumentError, fn -> Options.hub!("a/b", opts) end)
    end
  end

  describe "a token" do
    @canary "hf_canary_c4n4ry"

    test "is wrapped, and only Secret.reveal/1 returns it" do
      opts = Options.model!(token: @canary)
      refute inspect(opts) =~ "canary"
      refute inspect(opts, structs: false) =~ "canary"
      refute "~p" |> :io_lib.format([opts]) |> to_string() =~ "canary"
      assert Secret.reveal(opts.token) == @canary

      configure(:token, @canary)
      assert Secret.reveal(Options.model!([]).token) == @canary
      assert Options.model!(token: false).token == false
    end

    test "is in no error message" do
      wrong = [
        [token: [@canary]],
        [token: String.to_atom(@canary)],
        [token: @canary <> <<255>>],
        %{token: @canary},
        %{"token" => @canary},
        [:offline, {:token, @canary}],
        [repo: {:hf, "org/name", auth_token: @canary}],
        [repo: {:hf, "org/name", [token: @canary, revision: "main"]}],
        [auth_token: @canary]
      ]

      for opts <- wrong, do: refute(message(opts) =~ "canary")
    end
  end

  describe "a password in :hub_endpoint" do
    test "is refused and not shown" do
      for address <- [
            "https://me:c4n4ry@hub.test",
            "https://me:c4/n4ry@hub.test/c4n4ry",
            "https://c4n4ry@hub.test",
            "ftp://me:c4n4ry@hub.test",
            "me:c4n4ry@hub.test",
            "https://hub.test?key=c4n4ry",
            ["https://me:c4n4ry@hub.test"],
            :"https://me:c4n4ry@hub.test",
            {"https://hub.test", "c4n4ry"},
            <<"https://me:c4n4ry@hub.test", 255>>
          ] do
        for message <- [
              message(hub_endpoint: address),
              message(%{hub_endpoint: address}),
              message([:offline, {:hub_endpoint, address}]),
              message(serving: Clip, hub_endpoint: address)
            ],
            do: refute(message =~ "n4ry")

        assert message(hub_endpoint: address) =~
                 ~s(expected :hub_endpoint to be an address such as "https://huggingface.co", ) <>
                   "without a user or a query"
      end

      assert message(hub_endpoint: "huggingface.co") =~ ~s(got: "huggingface.co")
    end
  end

  describe "the table" do
    @groups [:repo, :model, :hub, :fetch, :serving, :name, :target, :call, :stream] ++
              [:picture, :picture_limits, :labels, :label_limits, :scores]

    test "every default is a value of its type, and every type says what it takes" do
      for {name, type, default, _group, documentation} <- OptionTable.rows(@groups) do
        cast = if default == :required, do: {:ok, My.Clip}, else: OptionType.cast(type, default)
        assert {^name, {:ok, _}} = {name, cast}
        assert OptionType.expected(type) != ""
        assert OptionType.cast(type, {:no, 1.5, self()}) == :error
        assert documentation != ""
      end
    end

    test "every option is in the documentation of the module that takes it" do
      texts =
        for module <- [Image.ZeroShot, Image.ZeroShot.Serving, Image.ZeroShot.Hub], into: "" do
          {:docs_v1, _, _, _, %{"en" => text}, _, functions} = Code.fetch_docs(module)

          for({_, _, _, %{"en" => more}, _} <- functions, do: more)
          |> Enum.join()
          |> then(&(text <> &1))
        end

      for group <- @groups, item <- group |> OptionTable.docs() |> String.split("\n") do
        assert texts =~ item
      end

      assert texts =~ "* `:max_bytes` - the size of an image file. Defaults to `25_000_000`"
      assert texts =~ "* `:name` - an atom that calls give as `serving: name`. Required"
    end
  end

  test "a call of the Hub takes its own options and no others" do
    assert assert_raise(ArgumentError, fn -> Options.hub!("a/b", repo: "c/d") end).message =~
             "unknown option :repo; "
  end

  test "every placeholder of a template is replaced, and nothing in the label" do
    assert Templates.prompts(["a photo of {label}"], "dog") == ["a photo of dog"]
    assert Templates.prompts(["{label} and {label}", "{label}"], "dog") == ["dog and dog", "dog"]
    assert Templates.prompts(["a {label}"], "{label}") == ["a {label}"]
    assert Templates.prompts(["a {label}"], "\\0 \\1 &") == ["a \\0 \\1 &"]
    assert Templates.prompts([nil], "a photo of {label}") == ["a photo of {label}"]
  end
end
