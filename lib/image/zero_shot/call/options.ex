defmodule Image.ZeroShot.Call.Options do
  @moduledoc false

  # Every option: its default, its type, its limit. An option given in a call wins over
  # `config :image_zero_shot`, which is read anew by each call and wins over the default.

  alias Image.ZeroShot.Call.{Secret, Templates}
  alias Image.ZeroShot.Hub.Repo

  @app :image_zero_shot
  @placeholder "{label}"

  @template_kinds "nil, a string that contains #{@placeholder}, a list of those or one of " <>
                    Enum.map_join(Templates.names(), ", ", &inspect/1)

  @default_repo "openai/clip-vit-base-patch32"

  # `nil` leaves it to the environment, to the variables of Hugging Face's own tools.
  @hub_defaults [
    revision: nil,
    token: nil,
    offline: nil,
    hub_cache: nil,
    hub_endpoint: nil
  ]

  @fetch_defaults [repo: @default_repo, refresh: false, progress: nil] ++ @hub_defaults

  @model_defaults [
                    repo: @default_repo,
                    device: :auto,
                    cache_dir: nil,
                    torchscript: nil
                  ] ++ @hub_defaults

  @serving_defaults [
    max_queue: 512,
    max_batch: nil,
    max_cached_prompts: 50_000,
    concurrency: 1,
    threads: nil
  ]

  @score_defaults [
    scores: :softmax,
    multi_label: false,
    other: nil,
    top_k: nil,
    min_score: nil,
    logit_scale: nil
  ]

  @call_defaults [timeout: 15_000, serving: nil]

  @picture_defaults [
    decode: :exact,
    background: :white,
    color_profile: :ignore,
    max_bytes: 25_000_000,
    max_pixels: 50_000_000,
    max_side: 16_384,
    max_decode_bytes: 512 * 1024 * 1024,
    max_decode_ms: 10_000
  ]

  @picture_options Keyword.keys(@picture_defaults)

  @label_defaults [
    template: "a photo of #{@placeholder}",
    max_labels: 10_000,
    max_label_bytes: 4_096,
    max_prompts: 100_000
  ]

  # What the native library counts with; nobody means more.
  @largest_limit 0xFFFF_FFFF

  @type t :: %{required(atom()) => term()}

  @spec classify!(keyword()) :: t()
  def classify!(opts),
    do: opts |> call!(@label_defaults ++ @score_defaults ++ @picture_defaults) |> one_scoring!()

  @doc """
  The options of a label set that is compiled.
  """
  @spec classifier!(keyword()) :: t()
  def classifier!(opts), do: opts |> call!(@label_defaults ++ @score_defaults) |> one_scoring!()

  defp one_scoring!(%{multi_label: true, scores: scores}) when scores != :softmax do
    raise ArgumentError,
          "expected no :scores where :multi_label is true, which has scores of its own, " <>
            "got: #{inspect(scores)}"
  end

  defp one_scoring!(opts), do: opts

  @doc """
  The options of a call with a label set that was compiled with `compiled`, where they are missing
  in the call.
  """
  @spec classified!(keyword(), keyword()) :: t()
  def classified!(opts, compiled) do
    for name <- Keyword.keys(@label_defaults), Keyword.has_key?(keyword!(opts), name) do
      raise ArgumentError,
            "expected no #{inspect(name)} together with a classifier, in which the prompts are " <>
              "compiled already"
    end

    # With another model named, nothing that was said of the one before holds.
    model = [:serving | Keyword.keys(@model_defaults)]
    elsewhere = Enum.any?([:serving, :repo], &Keyword.has_key?(opts, &1))
    compiled = if elsewhere, do: Keyword.drop(compiled, model), else: compiled
    classify!(Keyword.merge(compiled, opts))
  end

  @spec similarity!(keyword()) :: t()
  def similarity!(opts), do: call!(opts, @picture_defaults)

  @doc """
  Those of a call's options that say how a picture is decoded and what it may cost.
  """
  @spec picture(t()) :: map()
  def picture(opts), do: Map.take(opts, @picture_options)

  @doc """
  The options of a call that is about a model and not about a picture.
  """
  @spec model!(keyword()) :: t()
  def model!(opts), do: call!(opts, [])

  # A call may have to start the serving.
  defp call!(opts, defaults) do
    opts
    |> build!(@call_defaults ++ @model_defaults ++ defaults, @serving_defaults)
    |> one_model!(opts)
  end

  # Of a serving that is named, the model was named where it was started.
  defp one_model!(%{serving: nil} = built, _opts), do: built

  defp one_model!(built, opts) do
    case Keyword.take(opts, Keyword.keys(@model_defaults)) do
      [] ->
        built

      [{name, _value} | _] = given ->
        # Given in the call, an option wins over a serving named in the configuration.
        if Keyword.has_key?(opts, :serving),
          do:
            raise(
              ArgumentError,
              "expected #{inspect(name)} not to be given together with :serving, whose model " <>
                "was chosen where it was started, got: #{inspect(redact(given))}"
            ),
          else: %{built | serving: nil}
    end
  end

  @doc """
  The options of a call that loads a model.
  """
  @spec load!(keyword()) :: t()
  def load!(opts) do
    opts
    |> build!([serving: nil] ++ @model_defaults ++ @serving_defaults)
    |> one_model!(opts)
  end

  @doc """
  The options of a call that unloads a model of this library's own supervisor.
  """
  @spec unload!(keyword()) :: t()
  def unload!(opts), do: opts |> build!(@model_defaults) |> Map.put(:serving, nil)

  @doc """
  The options of a serving in an application's own tree.
  """
  @spec serving!(keyword()) :: t()
  def serving!(opts) do
    {name, opts} = opts |> keyword!() |> Keyword.pop(:name)

    if name == nil or not is_atom(name) do
      raise ArgumentError,
            "expected :name of a serving to be an atom such as MyApp.Clip, got: #{inspect(name)}"
    end

    opts |> build!(@model_defaults ++ @serving_defaults) |> Map.put(:name, name)
  end

  @doc """
  The options of `Image.ZeroShot.Hub`, for a model of the Hub alone.
  """
  @spec hub!(Repo.t(), keyword()) :: t()
  def hub!(repo, opts) do
    if repo == :embedded or match?({:local, _}, repo) do
      raise ArgumentError,
            "expected the name of a model such as \"org/name\", got: #{inspect(repo)}"
    end

    build!([{:repo, repo} | keyword!(opts)], @fetch_defaults)
  end

  @doc """
  The prompts that templates make of a label.
  """
  @spec prompts([String.t() | nil, ...], String.t()) :: [String.t(), ...]
  def prompts(templates, label), do: Enum.map(templates, &prompt(&1, label))

  defp prompt(nil, label), do: label
  defp prompt(template, label), do: String.replace(template, @placeholder, label)

  # What is configured alone cannot be given in this call.
  defp build!(opts, defaults, configured \\ []) do
    names = Keyword.keys(defaults)
    for name <- opts |> keyword!() |> Keyword.keys(), name not in names, do: unknown!(name, names)

    (defaults ++ configured)
    |> Map.new(fn {name, default} -> {name, value!(name, opts, default)} end)
    |> put_revision(opts)
  end

  defp keyword!(opts) do
    if Keyword.keyword?(opts),
      do: opts,
      else:
        raise(
          ArgumentError,
          "expected options to be a keyword list, got: #{inspect(redact(opts))}"
        )
  end

  # A revision belongs to a repository: the one in the configuration does not go with a repository
  # that is named in the call.
  defp put_revision(%{repo: repo} = built, opts) do
    own = opts[:revision]

    cond do
      own && Repo.hub_name(repo) == nil ->
        raise ArgumentError,
              "expected :repo to be the name of a model where :revision is given, " <>
                "got: #{inspect(repo)}"

      Keyword.has_key?(opts, :revision) ->
        built

      match?({:hf, _, [revision: _]}, repo) ->
        %{built | revision: repo |> elem(2) |> Keyword.fetch!(:revision)}

      Keyword.has_key?(opts, :repo) ->
        %{built | revision: nil}

      true ->
        built
    end
  end

  defp value!(name, opts, default) do
    with :error <- given!(Keyword.fetch(opts, name), name, ""),
         :error <- given!(Application.fetch_env(@app, name), name, " in the config of #{@app}"),
         do: cast!(name, default, "")
  end

  defp given!({:ok, value}, name, where), do: cast!(name, value, where)
  defp given!(:error, _name, _where), do: :error

  defp cast!(name, value, where) do
    case cast(name, value) do
      {:ok, value} ->
        value

      {:error, expected} ->
        raise ArgumentError,
              "expected #{inspect(name)}#{where} to be #{expected}, got: #{shown(name, value)}"
    end
  end

  # A message ends in a log, where a token has no business, and a password in an address neither.
  defp shown(:token, _value), do: "something else"
  defp shown(:hub_endpoint, value), do: value |> redact_address() |> inspect()
  defp shown(:repo, {:hf, name, opts}), do: inspect({:hf, name, redact(opts)})
  defp shown(_name, value), do: inspect(value)

  defp redact(%{} = opts) when not is_struct(opts), do: Map.new(opts, &redact/1)

  defp redact(opts) when is_list(opts),
    do: if(List.improper?(opts), do: :hidden, else: Enum.map(opts, &redact/1))

  defp redact({key, value}) do
    cond do
      inspect(key) =~ ~r/token/i -> {key, :hidden}
      inspect(key) =~ ~r/endpoint/i -> {key, redact_address(value)}
      true -> {key, value}
    end
  end

  defp redact(other), do: other

  # What is no text may have the password in any part of it.
  defp redact_address(value) when is_binary(value) or is_nil(value) or is_number(value) do
    if is_binary(value) and value =~ ~r/[@?]/, do: :hidden, else: value
  end

  defp redact_address(_value), do: :hidden

  defp unknown!(name, names) do
    nearest = Enum.max_by(names, &String.jaro_distance(to_string(&1), to_string(name)))

    hint =
      if String.jaro_distance(to_string(nearest), to_string(name)) > 0.77,
        do: "Did you mean #{inspect(nearest)}?",
        else: "The options are #{Enum.map_join(names, ", ", &inspect/1)}"

    raise ArgumentError, "unknown option #{inspect(name)}. #{hint}"
  end

  defp cast(:repo, :embedded), do: {:ok, :embedded}

  # Other clients take the token here, and ours would take it for nothing.
  defp cast(:repo, {:hf, name, opts} = repo) do
    known = match?([], opts) or match?([revision: _], opts)

    if text?(name) and known and (opts[:revision] == nil or text?(opts[:revision])),
      do: {:ok, repo},
      else: {:error, "{:hf, name, revision: revision}, with a token in the option :token"}
  end

  defp cast(:repo, repo) do
    text =
      case repo do
        {:local, directory} -> directory
        {:hf, name} -> name
        name -> name
      end

    if text?(text),
      do: {:ok, repo},
      else: {:error, ":embedded, {:local, directory} or a name such as \"org/name\""}
  end

  defp cast(name, nil) when name in [:revision, :token, :offline, :hub_cache, :hub_endpoint],
    do: {:ok, nil}

  defp cast(:revision, revision),
    do: if(text?(revision), do: {:ok, revision}, else: {:error, "a branch, a tag or a commit"})

  defp cast(:token, false), do: {:ok, false}
  defp cast(:token, %Secret{} = token), do: {:ok, token}

  defp cast(:token, token) do
    if text?(token),
      do: {:ok, Secret.new(token)},
      else: {:error, "a string, false for none or nil for the one of the environment"}
  end

  defp cast(:offline, offline) when is_boolean(offline), do: {:ok, offline}
  defp cast(:offline, _), do: {:error, "true, false or nil for what the environment says"}

  defp cast(:refresh, refresh) when is_boolean(refresh), do: {:ok, refresh}
  defp cast(:refresh, _), do: {:error, "true or false"}

  defp cast(:progress, pid) when is_pid(pid) or pid == nil, do: {:ok, pid}
  defp cast(:progress, _), do: {:error, "a process or nil"}

  # It is part of a model's key, which logs and states show: a password must not come that far.
  defp cast(:hub_endpoint, endpoint) do
    if text?(endpoint) and endpoint =~ ~r{\Ahttps?://[^@?#]+\z},
      do: {:ok, endpoint},
      else:
        {:error,
         "an address such as \"https://huggingface.co\", without a user or a query; " <>
           "what the Hub knows you by goes into :token"}
  end

  defp cast(:torchscript, nil), do: {:ok, nil}

  defp cast(:serving, name) when is_atom(name) and name not in [true, false], do: {:ok, name}
  defp cast(:serving, _), do: {:error, "the name of a serving, an atom"}

  defp cast(name, nil) when name in [:threads, :max_batch], do: {:ok, nil}
  defp cast(name, :infinity) when name in [:timeout, :max_queue], do: {:ok, :infinity}
  defp cast(:timeout, 0), do: {:ok, 0}

  defp cast(name, number) when name in [:concurrency, :threads] and number not in 1..1024,
    do: {:error, "an integer from 1 to 1024"}

  defp cast(:template, nil), do: {:ok, [nil]}

  defp cast(:template, [_ | _] = templates) do
    if not List.improper?(templates) and Enum.all?(templates, &template?/1),
      do: {:ok, templates},
      else: {:error, @template_kinds}
  end

  defp cast(:template, name) when is_atom(name) do
    with :error <- Templates.fetch(name), do: {:error, @template_kinds}
  end

  defp cast(:template, template),
    do: if(template?(template), do: {:ok, [template]}, else: {:error, @template_kinds})

  defp cast(:scores, kind) when kind in [:softmax, :logits, :cosine], do: {:ok, kind}
  defp cast(:scores, _), do: {:error, ":softmax, :logits or :cosine"}

  defp cast(:multi_label, multi) when is_boolean(multi), do: {:ok, multi}
  defp cast(:multi_label, _), do: {:error, "true or false"}

  defp cast(:other, other) when other == nil or is_binary(other), do: {:ok, other}
  defp cast(:other, [_ | _] = prompts), do: {:ok, prompts}
  defp cast(:other, {_name, prompt} = other) when is_binary(prompt), do: {:ok, other}
  defp cast(:other, {_name, [_ | _]} = other), do: {:ok, other}

  defp cast(:other, _),
    do: {:error, "nil, a label, a list of prompts or {label, prompts}"}

  defp cast(name, nil) when name in [:top_k, :min_score, :logit_scale], do: {:ok, nil}

  defp cast(:min_score, score) when is_number(score) and score >= -1.0e6 and score <= 1.0e6,
    do: {:ok, score / 1}

  defp cast(:min_score, _), do: {:error, "a number from -1.0e6 to 1.0e6 or nil"}

  defp cast(:logit_scale, scale) when is_number(scale) and scale > 0 and scale <= 1.0e6,
    do: {:ok, scale / 1}

  defp cast(:logit_scale, _), do: {:error, "a positive number of at most 1.0e6 or nil"}

  defp cast(:max_cached_prompts, 0), do: {:ok, 0}

  defp cast(:device, device) when device in [:auto, :cpu, :cuda, :mps], do: {:ok, device}

  defp cast(:device, {:cuda, index} = device) when index in 0..127, do: {:ok, device}
  defp cast(:device, _), do: {:error, ":auto, :cpu, :cuda, {:cuda, index} or :mps"}

  defp cast(:decode, decode) when decode in [:exact, :fast], do: {:ok, decode}
  defp cast(:decode, _), do: {:error, ":exact or :fast"}

  defp cast(:color_profile, profile) when profile in [:ignore, :srgb], do: {:ok, profile}
  defp cast(:color_profile, _), do: {:error, ":ignore or :srgb"}

  defp cast(:background, :drop), do: {:ok, :drop}
  defp cast(:background, :white), do: {:ok, {255, 255, 255}}
  defp cast(:background, :black), do: {:ok, {0, 0, 0}}

  defp cast(:background, {r, g, b} = colour) when r in 0..255 and g in 0..255 and b in 0..255,
    do: {:ok, colour}

  defp cast(:background, _),
    do: {:error, ":white, :black, {red, green, blue} with numbers from 0 to 255 or :drop"}

  defp cast(:cache_dir, nil), do: {:ok, user_cache()}

  defp cast(name, dir) when name in [:cache_dir, :hub_cache, :torchscript],
    do: if(text?(dir), do: {:ok, Repo.absolute(dir)}, else: {:error, "a directory"})

  defp cast(_limit, number) when is_integer(number) and number in 1..@largest_limit,
    do: {:ok, number}

  defp cast(_limit, _), do: {:error, "a positive integer of at most #{@largest_limit}"}

  defp template?(nil), do: true
  defp template?(template), do: text?(template) and template =~ @placeholder

  # What the native library takes as a string.
  defp text?(term), do: is_binary(term) and term != "" and String.valid?(term)

  # What `:filename.basedir/2` says, which asks a process of the VM and raises where there is no
  # home, as for a service of systemd with a user of its own. Without one there is no cache.
  defp user_cache do
    {_family, os} = :os.type()
    {xdg, home} = {directory_in("XDG_CACHE_HOME"), directory_in("HOME")}

    cond do
      os == :darwin and home != nil -> Path.join([home, "Library/Caches", to_string(@app)])
      xdg != nil -> Path.join(xdg, to_string(@app))
      home != nil -> Path.join([home, ".cache", to_string(@app)])
      true -> nil
    end
  end

  defp directory_in(variable) do
    with "" <- System.get_env(variable), do: nil
  end
end
