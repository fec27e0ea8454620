defmodule Image.ZeroShot.Call.OptionType do
  @moduledoc false

  # The types of options: which values they take, what those become, and one phrase that says what
  # was expected.

  alias Image.ZeroShot.Call.{Secret, Templates}
  alias Image.ZeroShot.Hub.Repo

  @type t ::
          atom()
          | {:one_of, [atom(), ...]}
          | {:integer, least :: integer(), most :: integer()}
          | {:number, float(), float()}
          | {:function, arity()}
          | {:or, [nil | :infinity, ...], t()}

  # Names of models and commits are far shorter.
  @max_text 1_024

  @spec cast(t(), term()) :: {:ok, term()} | :error
  def cast({:or, atoms, type}, value),
    do: if(value in atoms, do: {:ok, value}, else: cast(type, value))

  def cast({:one_of, atoms}, value), do: keep(value, value in atoms)

  def cast({:integer, least, most}, value),
    do: keep(value, is_integer(value) and value in least..most)

  def cast({:number, least, most}, value)
      when is_number(value) and value >= least and value <= most,
      do: {:ok, value / 1}

  def cast({:function, arity}, value), do: keep(value, is_function(value, arity))

  def cast(:scale, value) when is_number(value) and value > 0 and value <= 1.0e6,
    do: {:ok, value / 1}

  def cast(:term, value), do: {:ok, value}
  def cast(:boolean, value), do: keep(value, is_boolean(value))
  def cast(:process, value), do: keep(value, is_pid(value))
  def cast(:name, value), do: keep(value, is_atom(value) and value != nil)
  def cast(:serving, value), do: keep(value, is_atom(value) and not is_boolean(value))
  def cast(:revision, value), do: keep(value, text?(value))
  def cast(:text, value), do: keep(value, text?(value) and byte_size(value) <= @max_text)
  def cast(:template, value), do: Templates.cast(value)
  def cast(:repo, value), do: keep(value, repo?(value))
  def cast(:device, value), do: keep(value, device?(value))

  def cast(:only, value),
    do: keep(value, value == nil or is_function(value, 1) or proper_list?(value))

  def cast(:other, value), do: keep(value, other?(value))
  def cast(:vocabulary, value), do: keep(value, is_list(value) or text?(value))

  def cast(:colour, :white), do: {:ok, {255, 255, 255}}
  def cast(:colour, :black), do: {:ok, {0, 0, 0}}
  def cast(:colour, value), do: keep(value, value == :drop or rgb?(value))

  def cast(:token, value) when value in [nil, false], do: {:ok, value}
  def cast(:token, %Secret{} = token), do: {:ok, token}
  def cast(:token, value), do: if(text?(value), do: {:ok, Secret.new(value)}, else: :error)

  # A part of a model's key, which logs and states show: a password must not come that far.
  def cast(:endpoint, nil), do: {:ok, nil}
  def cast(:endpoint, value), do: keep(value, text?(value) and value =~ ~r{\Ahttps?://[^@?#]+\z})

  def cast(:cache_dir, nil), do: {:ok, user_cache()}
  def cast(:cache_dir, value), do: cast(:directory, value)
  def cast(:directory, value), do: if(text?(value), do: {:ok, Repo.absolute(value)}, else: :error)
  def cast(:file, value), do: cast(:directory, value)
  def cast(_type, _value), do: :error

  @doc """
  What was expected, to stand after "expected :name to be".
  """
  @spec expected(t()) :: String.t()
  def expected({:or, atoms, type}), do: alternatives(choices(type) ++ inspected(atoms))

  def expected(type) when type in [:boolean, :revision, :vocabulary],
    do: alternatives(choices(type))

  def expected({:one_of, _atoms} = type), do: alternatives(choices(type))
  def expected({:integer, least, most}), do: "an integer from #{least} to #{most}"
  def expected({:number, least, most}), do: "a number from #{least} to #{most}"
  def expected({:function, 1}), do: "a function of one argument"
  def expected(:scale), do: "a positive number of at most 1.0e6"
  def expected(:process), do: "a process"
  def expected(:name), do: "an atom such as MyApp.Clip"
  def expected(:serving), do: "the name of a serving, an atom"
  def expected(:text), do: "a string of at most #{@max_text} bytes"
  def expected(:template), do: Templates.expected()
  def expected(:device), do: ":auto, :cpu, :cuda, {:cuda, index} or :mps"
  def expected(:other), do: "a label, a list of prompts, {label, prompts} or nil"
  def expected(:only), do: "a list of ids, a function of one argument or nil"
  def expected(:token), do: "a string, false for none or nil for the one of the environment"
  def expected(:directory), do: "a directory"
  def expected(:file), do: "the path of a file"
  def expected(:cache_dir), do: "a directory or nil"

  def expected(:repo) do
    ":embedded, {:local, directory}, a name such as \"org/name\" or " <>
      "{:hf, name, revision: revision}; a token goes into :token"
  end

  def expected(:colour),
    do: ":white, :black, {red, green, blue} with numbers from 0 to 255 or :drop"

  def expected(:endpoint) do
    "an address such as \"https://huggingface.co\", without a user or a query; " <>
      "a token goes into :token"
  end

  @doc """
  A value as an error message may show it: messages end in logs, where no token belongs.
  """
  @spec shown(t(), term()) :: String.t()
  def shown(:token, _value), do: "something else"
  def shown(:endpoint, value), do: value |> Secret.redact_address() |> inspect()
  def shown(:repo, {:hf, name, opts}), do: inspect({:hf, name, Secret.redact(opts)})
  def shown(_type, value), do: inspect(value, limit: 50, printable_limit: 200)

  defp keep(value, true), do: {:ok, value}
  defp keep(_value, false), do: :error

  defp proper_list?(value), do: is_list(value) and not List.improper?(value)

  # What the native library takes as a string.
  defp text?(term), do: is_binary(term) and term != "" and String.valid?(term)

  defp repo?(:embedded), do: true
  defp repo?({:local, directory}), do: text?(directory)
  defp repo?({:hf, name}), do: text?(name)
  defp repo?({:hf, name, []}), do: text?(name)
  defp repo?({:hf, name, [revision: nil]}), do: text?(name)
  # Other clients take the token here. Ours would ignore it.
  defp repo?({:hf, name, [revision: revision]}), do: text?(name) and text?(revision)
  defp repo?(name), do: text?(name)

  defp device?({:cuda, index}), do: is_integer(index) and index in 0..127
  defp device?(device), do: device in [:auto, :cpu, :cuda, :mps]

  defp other?({_label, prompt}) when is_binary(prompt), do: true
  defp other?({_label, prompts}), do: match?([_ | _], prompts)
  defp other?(other), do: other == nil or is_binary(other) or match?([_ | _], other)

  # What `nil` and `:infinity` stand beside.
  defp choices({:one_of, atoms}), do: inspected(atoms)
  defp choices(:boolean), do: ["true", "false"]
  defp choices(:revision), do: ["a branch", "a tag", "a commit"]
  defp choices(:vocabulary), do: ["a list of labels", "the path of a file with them"]
  defp choices(type), do: [expected(type)]

  defp rgb?({r, g, b}), do: Enum.all?([r, g, b], &(is_integer(&1) and &1 in 0..255))
  defp rgb?(_other), do: false

  defp inspected(atoms), do: Enum.map(atoms, &inspect/1)

  defp alternatives([one]), do: one

  defp alternatives(several) do
    {last, rest} = List.pop_at(several, -1)
    Enum.join(rest, ", ") <> " or " <> last
  end

  # Same as `:filename.basedir/2`, but that asks a process of the VM, and raises without a home directory
  # (a systemd service with `DynamicUser=`). Without a home there is no cache.
  defp user_cache do
    {_family, os} = :os.type()
    {xdg, home} = {directory_in("XDG_CACHE_HOME"), directory_in("HOME")}

    cond do
      os == :darwin and home != nil -> Path.join([home, "Library/Caches/image_zero_shot"])
      xdg != nil -> Path.join(xdg, "image_zero_shot")
      home != nil -> Path.join([home, ".cache/image_zero_shot"])
      true -> nil
    end
  end

  defp directory_in(variable) do
    with "" <- System.get_env(variable), do: nil
  end
end
