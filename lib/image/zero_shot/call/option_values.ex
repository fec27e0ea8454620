defmodule Image.ZeroShot.Call.OptionValues do
  @moduledoc false

  # The values of options. One given in a call wins over `config :image_zero_shot`, which every call reads
  # anew, and that wins over the default of `OptionTable`.

  require Logger

  alias Image.ZeroShot.Call.{OptionTable, OptionType, Secret, Typo}
  alias Image.ZeroShot.Hub.Repo

  @app :image_zero_shot
  @in_config " in the config of image_zero_shot"

  # Not for the configuration: they belong to one call.
  @index [:index, :index_limit, :index_process, :nearest]
  @given_only [:name, :stub, :stream, :embedding, :calibration, :explain] ++ @index

  @type t :: %{required(atom()) => term()}

  @doc """
  Logs what no call will read. A call cannot: it looks for its own options only.
  """
  @spec warn_of_unknown_configuration() :: :ok
  def warn_of_unknown_configuration do
    names = OptionTable.names(OptionTable.groups() -- @given_only)

    for {name, _value} <- Application.get_all_env(@app),
        name not in names,
        do: Logger.warning("config #{inspect(@app)} has an #{unknown(name, names)}")

    :ok
  end

  @doc """
  The values of all options of `groups`, and of those of `configured`, which the call itself cannot give.
  """
  @spec build!(keyword(), [OptionTable.group()], [OptionTable.group()]) :: t()
  def build!(opts, groups, configured \\ []) do
    check_names!(opts, groups)

    (groups ++ configured)
    |> OptionTable.rows()
    |> Map.new(fn {name, _type, _default, _group, _doc} = row -> {name, value!(row, opts)} end)
    |> put_revision(opts)
  end

  @doc """
  Raises for an option that is in none of the groups.
  """
  @spec check_names!(keyword(), [OptionTable.group()]) :: :ok
  def check_names!(opts, groups) do
    names = OptionTable.names(groups)

    for name <- opts |> keyword!() |> Keyword.keys(),
        name not in names,
        do: raise(ArgumentError, unknown(name, names))

    :ok
  end

  @doc """
  Options of any name, not yet checked.
  """
  @spec keyword!(term()) :: keyword()
  def keyword!(opts) do
    if Keyword.keyword?(opts),
      do: opts,
      else:
        raise(
          ArgumentError,
          "expected options to be a keyword list, got: #{inspect(Secret.redact(opts))}"
        )
  end

  defp unknown(name, names) do
    meant = Typo.meant(name, names)

    hint =
      cond do
        # The word that everybody tries first. Here it is an option of bare vectors.
        name == :model and :repo in names ->
          "the model is given as :repo"

        name in OptionTable.names([:serving]) ->
          "it belongs to Image.ZeroShot.load/1, to Image.ZeroShot.Serving and to the configuration"

        name in OptionTable.names(OptionTable.groups()) ->
          "it belongs to other calls; the options here are #{list(names)}"

        meant ->
          "did you mean #{inspect(meant)}?"

        true ->
          "the options are #{list(names)}"
      end

    "unknown option #{inspect(name)}; #{hint}"
  end

  defp list(names), do: Enum.map_join(names, ", ", &inspect/1)

  # A revision belongs to a repository: the one in the configuration does not go with a repository
  # that the call names.
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

  defp put_revision(built, _opts), do: built

  defp value!({name, type, default, group, _doc}, opts) do
    with :error <- given!(Keyword.fetch(opts, name), name, type, ""),
         :error <- given!(configured(name, group), name, type, @in_config),
         do: cast!(name, type, if(default == :required, do: nil, else: default), "")
  end

  defp configured(_name, group) when group in @given_only, do: :error
  defp configured(name, _group), do: Application.fetch_env(@app, name)

  defp given!({:ok, value}, name, type, where), do: cast!(name, type, value, where)
  defp given!(:error, _name, _type, _where), do: :error

  defp cast!(name, type, value, where) do
    case OptionType.cast(type, value) do
      {:ok, value} ->
        value

      :error ->
        raise ArgumentError,
              "expected #{inspect(name)}#{where} to be #{OptionType.expected(type)}, " <>
                "got: #{OptionType.shown(type, value)}"
    end
  end
end
